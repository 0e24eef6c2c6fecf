package gateway

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// writes counts what the server has sent on a peer's connection: a short write that does
// not wait is a segment.
func (e *edge) writes(t *testing.T, peer net.Conn) (n uint32) {
	t.Helper()
	port := peer.LocalAddr().(*net.TCPAddr).Port //nolint:forcetypeassert // the edge has no other
	for _, s := range e.gw.roster.all() {
		fd := int(s.parking.fd)
		if addr, err := unix.Getpeername(fd); err != nil || addr.(*unix.SockaddrInet4).Port != port { //nolint:forcetypeassert // as above
			continue
		}
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		n = info.Data_segs_out
	}
	return n
}

// TestWrites: the rooms of the URL cost no write of their own, nor does what a socket has
// missed, if its node has it in memory.
func TestWrites(t *testing.T) {
	t.Parallel()
	onEdge(t, false, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		stays := e.dial(t) // so that the room keeps its messages
		a := e.ask(t, stays, request("GET /v1/ws?room=a HTTP/1.1"))
		_, _ = a.next(t), a.next(t) // the welcome, subscribed
		if got := e.writes(t, stays); got != 1 {
			t.Errorf("the handshake and its room took %d writes, want 1", got)
		}
		for _, missed := range []string{"one", "two", "three"} {
			e.bus.append("a", missed)
		}
		conn := e.dial(t)
		a = e.ask(t, conn, request())
		_ = a.next(t)
		if _, err := conn.Write([]byte(frame(fin|text, `{"id":1,"subscribe":{"room":"a","after":"`+at(start).String()+`"}}`))); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			_ = a.next(t)
		}
		if got := e.writes(t, conn); got != 2 {
			t.Errorf("the handshake and a resume took %d writes, want 2", got)
		}
	})
}
