package nodetest

import (
	"testing"
	"time"
)

// patience bounds a wait for something that takes seconds at most on a quiet machine.
const patience = 2 * time.Minute

// Eventually waits until cond holds, asking again every few milliseconds, and fails
// the test with what if it does not within the deadline. It asks at least once after
// the deadline: this goroutine may have stood still for so long.
func Eventually(t testing.TB, deadline time.Duration, what string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for over := false; !cond(); {
		if over {
			t.Fatalf("not within %s: %s", deadline, what)
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			over = true
		}
	}
}
