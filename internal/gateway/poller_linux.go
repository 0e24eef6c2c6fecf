package gateway

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller tells sockets when the kernel takes more of them: one epoll, whose own
// descriptor Go's runtime waits for, so that no thread does.
type poller struct {
	file *os.File // static, as raw
	raw  syscall.RawConn
	done chan struct{} // closed when run has ended

	mu      sync.Mutex // guards sockets
	sockets map[int32]*fdSocket
}

// pollers makes a gateway's poller when it is first needed.
type pollers struct {
	mu   sync.Mutex
	poll *poller
}

func (p *pollers) get() (*poller, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.poll != nil {
		return p.poll, nil
	}
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	p.poll = poll
	go poll.run()
	return poll, nil
}

// stop ends the poller and waits for it. No socket may use it any more.
func (p *pollers) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.poll == nil {
		return
	}
	_ = p.poll.file.Close()
	<-p.poll.done
	p.poll = nil
}

func newPoller() (*poller, error) {
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
	return &poller{file: file, raw: raw, done: make(chan struct{}), sockets: make(map[int32]*fdSocket)}, nil
}

// await has a full socket told once it takes more. fd is open: its connection's
// RawConn holds it.
func (p *poller) await(fd int, s *fdSocket) error {
	event := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(fd)} //nolint:gosec // a descriptor
	op := unix.EPOLL_CTL_MOD
	if s.fd.Swap(event.Fd) == 0 {
		op = unix.EPOLL_CTL_ADD
		p.mu.Lock()
		p.sockets[event.Fd] = s
		p.mu.Unlock()
	}
	var err error
	if ctl := p.raw.Control(func(epfd uintptr) { err = unix.EpollCtl(int(epfd), op, fd, &event) }); ctl != nil { //nolint:gosec // a descriptor
		return fmt.Errorf("epoll: %w", ctl)
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// forget takes a socket out of the table before its connection is closed. The kernel
// forgets the descriptor with its close.
func (p *poller) forget(s *fdSocket) {
	fd := s.fd.Load()
	if fd == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets[fd] == s {
		delete(p.sockets, fd)
	}
}

// run tells sockets until the poller is stopped. An event may be of a descriptor that
// was closed and opened again meanwhile: who is told too much only tries a write.
func (p *poller) run() {
	defer close(p.done)
	events := make([]unix.EpollEvent, 256)
	for {
		n := 0
		err := p.raw.Read(func(epfd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(epfd), events, 0) //nolint:gosec // a descriptor
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil || n < 0 {
			return
		}
		for _, e := range events[:n] {
			p.mu.Lock()
			s := p.sockets[e.Fd]
			p.mu.Unlock()
			if s != nil {
				s.ready()
			}
		}
	}
}
