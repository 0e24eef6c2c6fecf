package node

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
)

// boundedListener has at most so many connections open, and closes those beyond at once.
// A connection costs a descriptor, and an embedded log that finds none, for a second, stores
// nothing more until the process is started again.
type boundedListener struct {
	net.Listener
	most int64 // static, as log
	log  *slog.Logger
	open atomic.Int64
	full atomic.Bool // that is logged
}

// bounded bounds a listener; 0 = no bound.
func bounded(lis net.Listener, name string, most int, log *slog.Logger) net.Listener {
	if most == 0 {
		return lis
	}
	return &boundedListener{Listener: lis, most: int64(most), log: log.With("listener", name, "limit", most)}
}

// Accept returns the next connection that there is a place for.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			if l.full.Swap(false) {
				l.log.Info("the listener takes connections again")
			}
			return &placedConn{Conn: conn, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		_ = conn.Close()
		if !l.full.Swap(true) {
			l.log.Warn("the listener has all connections that it may have, others are closed; raise the limit of open files (ulimit -n)")
		}
	}
}

// placedConn has a place among those of its listener.
type placedConn struct {
	net.Conn
	leave func() // static
}

// Close gives the place back.
func (c *placedConn) Close() error {
	defer c.leave() // once the descriptor is free
	return c.Conn.Close()
}
