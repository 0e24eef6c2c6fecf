package bench

import (
	"io"
	"net"
	"sync"
	"time"
)

// reader reads the sockets of one lane.
type reader interface {
	// add hands over a socket that has subscribed, with its connection.
	add(s *socket, c net.Conn) error

	// stop closes the sockets and waits for the reader's goroutines. Nothing may be
	// added any more.
	stop()
}

const (
	streamBuffer = 16 << 10
	pongTimeout  = 5 * time.Second
)

// streams is the reader that works everywhere and through TLS: a goroutine for each
// socket.
type streams struct {
	lane *lane
	wg   sync.WaitGroup

	mu      sync.Mutex
	sockets []*socket // guarded by mu
}

func (r *streams) add(s *socket, c net.Conn) error {
	r.mu.Lock()
	r.sockets = append(r.sockets, s)
	r.mu.Unlock()
	r.lane.mu.Lock()
	s.conn = deadlined{c}
	r.lane.mu.Unlock()
	r.wg.Go(func() { r.read(s, c) })
	return nil
}

func (r *streams) stop() {
	r.mu.Lock()
	for _, s := range r.sockets {
		r.lane.mu.Lock()
		s.end(nil)
		r.lane.mu.Unlock()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *streams) read(s *socket, from io.Reader) {
	buf := make([]byte, streamBuffer)
	l := r.lane
	for {
		n := copy(buf, s.rest) // written below only
		if n == len(buf) {
			buf = append(make([]byte, 0, 2*n), buf...)[:2*n]
		}
		read, err := from.Read(buf[n:])
		l.mu.Lock()
		if err == nil {
			err = s.read(buf[:n+read], l.load.clock.now())
		}
		if err != nil {
			s.end(err)
		}
		l.flush()
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// read takes what was read, which begins with the rest of before, and keeps what is
// no whole frame.
func (s *socket) read(b []byte, now int64) error {
	used, err := s.lane.take(s, b, now)
	s.rest = append(s.rest[:0], b[used:]...)
	return err
}

// deadlined is a connection whose writes, which are short, do not block for long.
type deadlined struct{ net.Conn }

func (d deadlined) Write(b []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(pongTimeout)); err != nil {
		return 0, err
	}
	return d.Conn.Write(b)
}
