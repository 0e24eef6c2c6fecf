package gateway

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller tells sessions that their descriptors are ready for something: one epoll,
// one-shot, whose own descriptor Go's runtime waits for, so that no thread does.
type poller struct {
	// static
	events uint32 // what for
	tell   func(s *session)
	file   *os.File
	raw    syscall.RawConn
	done   chan struct{} // closed when run has ended

	mu       sync.Mutex // guards sessions
	sessions []*session // by descriptor
}

// pollers are a gateway's: made when first needed.
type pollers struct {
	mu      sync.Mutex
	in, out *poller
}

// get returns the pollers for reading and for writing.
func (p *pollers) get() (in, out *poller, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in != nil {
		return p.in, p.out, nil
	}
	if in, err = newPoller(unix.EPOLLIN, (*session).readable); err != nil {
		return nil, nil, err
	}
	if out, err = newPoller(unix.EPOLLOUT, (*session).ready); err != nil {
		_ = in.file.Close()
		return nil, nil, err
	}
	go in.run()
	go out.run()
	p.in, p.out = in, out
	return in, out, nil
}

// stop ends the pollers and waits for them. No session may use them any more.
func (p *pollers) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return
	}
	for _, poll := range []*poller{p.in, p.out} {
		_ = poll.file.Close()
		<-poll.done
	}
	p.in, p.out = nil, nil
}

func newPoller(events uint32, tell func(s *session)) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime would not wait for it
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll: %w", err), file.Close())
	}
	return &poller{events: events, tell: tell, file: file, raw: raw, done: make(chan struct{})}, nil
}

// await has a session told once its descriptor, which is open, is ready.
func (p *poller) await(fd int32, s *session) error {
	op := unix.EPOLL_CTL_MOD
	if p.enter(fd, s) {
		op = unix.EPOLL_CTL_ADD
	}
	event := unix.EpollEvent{Events: p.events | unix.EPOLLONESHOT, Fd: fd}
	var err error
	if ctl := p.raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, int(fd), &event) }); ctl != nil {
		return fmt.Errorf("epoll: %w", ctl)
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// enter puts a session into the table. It reports whether the descriptor is new.
func (p *poller) enter(fd int32, s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if more := int(fd) + 1 - len(p.sessions); more > 0 {
		p.sessions = append(p.sessions, make([]*session, more)...)
	}
	fresh := p.sessions[fd] != s
	p.sessions[fd] = s
	return fresh
}

// forget takes a session out of the table before its descriptor is closed, with which the
// kernel forgets it.
func (p *poller) forget(fd int32, s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(fd) < len(p.sessions) && p.sessions[fd] == s {
		p.sessions[fd] = nil
	}
}

func (p *poller) at(fd int32) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[fd]
}

// run tells sessions until the poller is stopped. An event may be of a descriptor that
// was closed and opened again meanwhile: who is told too much only tries in vain.
func (p *poller) run() {
	defer close(p.done)
	events := make([]unix.EpollEvent, 256)
	for {
		n := 0
		err := p.raw.Read(func(epfd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(epfd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil || n < 0 {
			return
		}
		for _, e := range events[:n] {
			if s := p.at(e.Fd); s != nil {
				p.tell(s)
			}
		}
	}
}
