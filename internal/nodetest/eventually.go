package nodetest

import (
	"testing"
	"time"
)

// Eventually waits until cond holds, asking again every few milliseconds, and fails
// the test with what if it does not within the deadline. It asks once more then: the
// test itself may have stood still.
func Eventually(t testing.TB, deadline time.Duration, what string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout.C:
			if !cond() {
				t.Fatalf("not within %s: %s", deadline, what)
			}
			return
		}
	}
}
