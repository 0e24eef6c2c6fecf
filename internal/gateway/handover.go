package gateway

import (
	"context"
	"net"
	"sync"
	"time"
)

// handover is the listener of the HTTP server behind a front: it gives it the
// connections that the front does not serve.
type handover struct {
	lis    net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover(lis net.Listener) *handover {
	return &handover{lis: lis, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give hands a connection over, or closes it if nobody takes any.
func (h *handover) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.closed:
		_ = conn.Close()
	}
}

// wait waits, and reports false if the listener is closed.
func (h *handover) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.closed:
		return false
	}
}

// Accept returns the next connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the front's listener too.
func (h *handover) Close() error {
	var err error
	h.once.Do(func() {
		close(h.closed)
		err = h.lis.Close()
	})
	return err
}

// Addr is the front's.
func (h *handover) Addr() net.Addr { return h.lis.Addr() }

// replayConn is a connection whose first bytes have been read already.
type replayConn struct {
	net.Conn
	head    []byte // what was read, and is still to be read again; of its reader
	overTLS bool   // static
	gone    func() // static; takes note that it is no longer the HTTP server's
}

// Read returns the first bytes again, then what follows.
func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// Close closes the connection.
func (c *replayConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

// CloseWrite lets the HTTP server end an answer without a reset.
func (c *replayConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// overTLS is the key of a request's context whose connection speaks TLS.
type overTLS struct{}

// noteTLS is an HTTP server's ConnContext: the server itself sees a replayConn.
func noteTLS(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*replayConn); ok && c.overTLS {
		return context.WithValue(ctx, overTLS{}, true)
	}
	return ctx
}
