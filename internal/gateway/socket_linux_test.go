package gateway

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLateUse: who parks a socket or hangs up when its descriptor has been closed does
// nothing to whoever has the number now.
func TestLateUse(t *testing.T) {
	t.Parallel()
	onEdge(t, false, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		a := e.ask(t, e.dial(t), request())
		_ = a.next(t)
		s := e.gw.roster.all()[0]
		if s.conn != nil {
			t.Error("Go's connection is kept")
		}
		_ = a.conn.Close()
		e.eventually(t, "the session is gone", func() bool { return e.gw.Connections() == 0 })

		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
		defer func() { _, _ = ours.Close(), theirs.Close() }()
		s.parking.fd = int32(pair[0]) // as if it had been given again
		s.parking.hangUp()
		if err := s.parking.park(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("parked: %v", err)
		}
		if _, err := theirs.WriteString("x"); err != nil {
			t.Errorf("the other one who has the number: %v", err)
		}
	})
}
