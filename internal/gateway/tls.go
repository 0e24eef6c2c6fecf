package gateway

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// recordConn is what TLS runs on: the connection itself, until its records are
// buffered for a flusher.
type recordConn struct {
	net.Conn
	busy chan struct{} // of the handshake's goroutine; not nil: it is held

	mu      sync.Mutex // guards what follows
	signal  func()     // not nil: records are buffered; called when TLS has one of its own
	writing bool       // the records are of the flusher, who knows
	answers int32      // bytes of records that TLS has added itself
	records []byte
	parking *fdSocket // not nil: reads do not wait
}

// enter waits for a place among those who use a processor; leave gives it back.
func (c *recordConn) enter(busy chan struct{}) {
	busy <- struct{}{}
	c.busy = busy
}

func (c *recordConn) leave() {
	if c.busy != nil {
		<-c.busy
		c.busy = nil
	}
}

// NetConn returns the connection below.
func (c *recordConn) NetConn() net.Conn { return c.Conn }

// Write sends records, or keeps them. TLS calls it for what the flusher writes, and
// for its own answers while the session reads.
func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.signal == nil {
		c.mu.Unlock()
		n, err := c.Conn.Write(p)
		c.leave()
		return n, err
	}
	defer c.mu.Unlock()
	if !c.writing {
		// The peer may ask for answers without end, and read none of them.
		if c.answers > maxControlBytes {
			return 0, errors.New("the answers of TLS are not read")
		}
		c.answers += int32(len(p)) //nolint:gosec // a record
		c.signal()
	}
	c.records = append(c.records, p...)
	return len(p), nil
}

// Read reads records: after the handshake without waiting, if the connection can.
func (c *recordConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	parking := c.parking
	c.mu.Unlock()
	if parking != nil {
		return parking.Read(p)
	}
	return c.Conn.Read(p)
}

// hand gives the connection to a session, which has its descriptor if parking is not nil.
func (c *recordConn) hand(signal func(), parking *fdSocket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signal, c.parking = signal, parking
	if parking != nil {
		c.Conn = nil
	}
}

// SetWriteDeadline does nothing once records are buffered: TLS ends its good-bye with
// a deadline that has passed, which would be the connection's.
func (c *recordConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	buffered := c.signal != nil
	c.mu.Unlock()
	if buffered {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *recordConn) setWriting(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = on
}

func (c *recordConn) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	records := c.records
	c.records, c.answers = nil, 0
	return records
}

// tlsSocket encrypts frames and writes the records as its raw socket takes them.
type tlsSocket struct {
	conn    *tls.Conn
	below   *recordConn
	raw     socket
	plain   *[]byte // the flusher's scratch
	records []byte  // not taken by raw yet
}

// maxPlain is how many bytes are encrypted at a time: what a full TLS socket may
// hold in memory, beside one frame.
const maxPlain = 32 << 10

// openTLS makes the sides of a connection that came through a front; another one is
// left as it is.
func (s *session) openTLS(conn *tls.Conn) {
	below, ok := conn.NetConn().(*recordConn)
	if !ok {
		return
	}
	sock := &tlsSocket{conn: conn, below: below, plain: &s.flusher.plain}
	if fd := s.newFDSocket(below.Conn); fd != nil {
		s.conn, sock.raw, s.parking = nil, fd, fd
	} else {
		sock.raw = &waitingSocket{conn: below.Conn, ready: s.ready}
	}
	below.hand(s.signal, s.parking)
	s.w.sock = sock
}

func (t *tlsSocket) write(frames [][]byte) (n int64, full bool, err error) {
	for {
		if full, err = t.flush(); full || err != nil || len(frames) == 0 {
			return n, full, err
		}
		plain := (*t.plain)[:0]
		for len(frames) > 0 && (len(plain) == 0 || len(plain)+len(frames[0]) <= maxPlain) {
			plain, frames = append(plain, frames[0]...), frames[1:]
		}
		*t.plain = plain
		t.below.setWriting(true)
		_, err := t.conn.Write(plain)
		t.below.setWriting(false)
		if err != nil {
			return n, false, err
		}
		n += int64(len(plain))
	}
}

// flush writes the records that wait; full says that some still do.
func (t *tlsSocket) flush() (full bool, err error) {
	if fresh := t.below.take(); len(t.records) == 0 {
		t.records = fresh
	} else {
		t.records = append(t.records, fresh...)
	}
	if len(t.records) == 0 {
		_, full, err = t.raw.write(nil)
		return full, err
	}
	n, full, err := t.raw.write([][]byte{t.records})
	if rest := t.records[n:]; len(rest) > 0 {
		t.records = slices.Clone(rest)
	} else {
		t.records = nil
	}
	return full, err
}

// finish says good-bye in TLS's words.
func (t *tlsSocket) finish() {
	if t.conn.CloseWrite() == nil {
		_, _ = t.flush()
	}
}
