package gateway

import "golang.org/x/sys/unix"

// maxUnsent is how much the kernel may hold of a socket beyond what is on its way,
// in bytes. More would only stand before the pings and answers of a slow peer, and
// cost kernel memory; the log keeps what is not written yet.
const maxUnsent = 128 << 10

// limitUnsent bounds what the kernel queues for a TCP connection. A kernel without the
// option keeps its own bound.
func limitUnsent(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
}
