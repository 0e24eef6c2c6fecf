package gateway

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A socket's connection has the bound.
func TestLimitUnsent(t *testing.T) {
	t.Parallel()
	onEdge(t, false, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		a := e.ask(t, e.dial(t), request())
		_ = a.next(t)
		for _, s := range e.gw.roster.all() {
			if got, err := unix.GetsockoptInt(int(s.parking.fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); err != nil || got != maxUnsent {
				t.Errorf("the connection's bound is %d, %v; want %d", got, err, maxUnsent)
			}
		}
	})
}
