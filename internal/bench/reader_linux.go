package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// eventsAtOnce is how many sockets are read before the window is told.
	eventsAtOnce = 64

	// hungUp are the events after which a connection has an end to read.
	hungUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
)

// epoll is the reader that costs little: one goroutine and one buffer for all sockets,
// read when readable. What it cannot read raw, streams do.
type epoll struct {
	lane    *lane
	file    *os.File // the epoll instance; it is itself waited for in the runtime's, which holds no thread
	streams streams
	ended   chan struct{}

	sockets []*socket // guarded by lane.mu; the events name their places
}

func newReader(l *lane) (reader, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	err = unix.SetNonblock(fd, true) // or the runtime would not wait for it
	r := &epoll{lane: l, file: os.NewFile(uintptr(fd), "epoll"), streams: streams{lane: l}, ended: make(chan struct{})}
	raw, connErr := r.file.SyscallConn()
	if err := errors.Join(err, connErr); err != nil {
		_ = r.file.Close() // the error tells
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go r.loop(raw)
	return r, nil
}

// add takes the descriptor away from the Go runtime, whose own epoll would wake for
// it as well.
func (r *epoll) add(s *socket, c net.Conn) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return r.streams.add(s, c)
	}
	fd, err := descriptorOf(tcp)
	_ = c.Close() // fd is the connection now
	if err != nil {
		return err
	}
	r.lane.mu.Lock()
	defer r.lane.mu.Unlock()
	s.conn = fd
	r.sockets = append(r.sockets, s)
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(len(r.sockets) - 1)} //nolint:gosec // descriptors are fewer
	raw, err := r.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	ctlErr := error(nil)
	err = raw.Control(func(epfd uintptr) { ctlErr = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, int(fd), &event) })
	if err := errors.Join(err, ctlErr); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (r *epoll) stop() {
	_ = r.file.Close() // wakes the loop; nothing is lost with it
	<-r.ended
	r.streams.stop()
	r.lane.mu.Lock()
	defer r.lane.mu.Unlock()
	for _, s := range r.sockets {
		s.end(nil)
	}
}

// loop reads what is readable until stop.
func (r *epoll) loop(raw syscall.RawConn) {
	defer close(r.ended)
	events := make([]unix.EpollEvent, eventsAtOnce)
	buf := make([]byte, readSize)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0) // a signal may interrupt it; 0 waits for the next event
			return n > 0
		})
		if err != nil {
			return // closed by stop
		}
		r.readable(events[:n], buf)
	}
}

// readable reads the sockets of some events.
func (r *epoll) readable(events []unix.EpollEvent, buf []byte) {
	r.lane.mu.Lock()
	defer r.lane.mu.Unlock()
	for _, event := range events {
		s := r.sockets[event.Fd]
		if s.ended {
			continue
		}
		if err := r.read(s, buf, event.Events&hungUp != 0); err != nil {
			s.end(err)
		}
	}
	r.lane.flush()
}

// read empties a socket: it is told of once (edge triggered), which spares the kernel a
// second look. A read that did not fill the buffer has emptied it, unless the end of the
// connection follows.
func (r *epoll) read(s *socket, buf []byte, toEnd bool) error {
	fd, ok := s.conn.(descriptor)
	if !ok {
		return errors.New("no descriptor")
	}
	for full := true; full; {
		before := copy(buf, s.rest)
		n, err := unix.Read(int(fd), buf[before:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		full = toEnd || before+n == len(buf)
		if err := s.read(buf[:before+n], r.lane.load.clock.now()); err != nil {
			return err
		}
	}
	return nil
}

// descriptor is a connection that the Go runtime does not know of.
type descriptor int

func descriptorOf(c *net.TCPConn) (descriptor, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd, dupErr := 0, error(nil)
	err = raw.Control(func(of uintptr) {
		fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0)
	})
	return descriptor(fd), errors.Join(err, dupErr)
}

func (d descriptor) Write(b []byte) (int, error) { return unix.Write(int(d), b) }

func (d descriptor) Close() error { return unix.Close(int(d)) }
