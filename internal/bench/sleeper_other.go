//go:build !linux

package bench

import (
	"context"
	"time"
)

// sleeper sleeps as well as the runtime's timers do.
type sleeper struct{}

func newSleeper() (*sleeper, error) { return &sleeper{}, nil }

// sleep waits for a time above 0, or less if ctx ends. It reports whether ctx goes on.
func (s *sleeper) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *sleeper) close() {}
