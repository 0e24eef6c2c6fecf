package gateway

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// socket is the write side of a connection, for its flusher's goroutine alone. It
// never waits.
type socket interface {
	// write takes as many bytes of the frames as the peer takes now, in order. full
	// says that it takes no more: the ready function is called, from any goroutine, once
	// it may. It keeps nothing of the frames' slice.
	write(frames [][]byte) (n int64, full bool, err error)
	// finish says what TLS says at the end, if the peer takes it at once.
	finish()
}

// open makes the session's two sides of its connection. Where the kernel can be asked
// without waiting, TLS on top or not, reads are parked and writes do not wait; else
// a goroutine reads and each write has one.
func (s *session) open() {
	s.in = s.conn
	if sock := s.newFDSocket(s.conn); sock != nil {
		s.conn, s.in, s.parking, s.w.sock = nil, sock, sock, sock
		return
	}
	s.w.sock = &waitingSocket{conn: s.conn, ready: s.ready}
	if conn, ok := s.conn.(*tls.Conn); ok {
		s.openTLS(conn)
	}
}

// waitingSocket writes through a goroutine that waits for the peer: for systems
// without epoll and for connections that are no TCP. It takes one write at a time,
// whole.
type waitingSocket struct {
	conn  net.Conn // static, as ready
	ready func()

	mu   sync.Mutex // guards what follows
	busy bool
	err  error
}

func (w *waitingSocket) write(frames [][]byte) (n int64, full bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy || w.err != nil || len(frames) == 0 {
		return 0, w.busy, w.err
	}
	for _, f := range frames {
		n += int64(len(f))
	}
	w.busy = true
	go w.wait(slices.Clone(frames)) // it ends with the connection, which its session closes
	return n, true, nil
}

func (w *waitingSocket) wait(frames net.Buffers) {
	_, err := frames.WriteTo(w.conn)
	w.mu.Lock()
	w.busy, w.err = false, err
	w.mu.Unlock()
	w.ready()
}

func (w *waitingSocket) finish() {}
