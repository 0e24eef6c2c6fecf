package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// eventsAtOnce is how many sockets are read before the window is told.
	eventsAtOnce = 64

	// hungUp are the events after which a connection has an end to read.
	hungUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

	// stopAfter is how long a loop without events takes to notice its end, in
	// milliseconds.
	stopAfter = 100
)

// epoll is the reader that costs little: one goroutine and one buffer for all sockets,
// read when readable. What it cannot read raw, streams do.
type epoll struct {
	lane    *lane
	fd      int
	streams streams
	ended   chan struct{}
	ending  atomic.Bool

	sockets []*socket // guarded by lane.mu; the events name their places
}

func newReader(l *lane) (reader, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	r := &epoll{lane: l, fd: fd, streams: streams{lane: l}, ended: make(chan struct{})}
	go r.loop()
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
	if err := unix.EpollCtl(r.fd, unix.EPOLL_CTL_ADD, int(fd), &event); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (r *epoll) stop() {
	r.ending.Store(true)
	<-r.ended
	r.streams.stop()
	r.lane.mu.Lock()
	defer r.lane.mu.Unlock()
	for _, s := range r.sockets {
		s.end(nil)
	}
	_ = unix.Close(r.fd) // nothing is lost with it
}

func (r *epoll) loop() {
	defer close(r.ended)
	events := make([]unix.EpollEvent, eventsAtOnce)
	buf := make([]byte, readSize)
	for !r.ending.Load() {
		n, err := unix.EpollWait(r.fd, events, stopAfter)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // only a programming error can be the cause
		}
		r.lane.mu.Lock()
		for _, event := range events[:max(n, 0)] {
			s := r.sockets[event.Fd]
			if s.ended {
				continue
			}
			if err := r.read(s, buf, event.Events&hungUp != 0); err != nil {
				s.end(err)
			}
		}
		r.lane.flush()
		r.lane.mu.Unlock()
	}
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
