package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepShort waits for at most a few milliseconds, to within the kernel's slack of 50 µs.
// The runtime's timers are late by up to a millisecond, which would count as latency.
func sleepShort(d time.Duration) {
	spec := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&spec, nil) // a signal that ends it early costs another look at the clock
}
