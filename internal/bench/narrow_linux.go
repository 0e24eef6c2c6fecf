package bench

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// smallReceive is how much a socket that stalls lets the kernel receive for it, in bytes.
const smallReceive = 16 << 10

// smallBuffer is for net.Dialer.Control: the size of the buffer is announced when a
// connection is made, so it must be set before.
func smallBuffer(_, _ string, c syscall.RawConn) error {
	set := error(nil)
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, smallReceive)
	})
	return errors.Join(err, set)
}
