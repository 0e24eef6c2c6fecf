package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// The waits between tries: the n-th is a random time up to backoffBase·2ⁿ. Full
// jitter, so that thousands of clients of a lost node do not come back in waves.
const (
	backoffBase  = 250 * time.Millisecond
	backoffLimit = 30 * time.Second
)

// backoff counts failed tries. Its zero value is ready.
type backoff struct{ tries int }

// next returns how long to wait before the next try.
func (b *backoff) next() time.Duration {
	return within(b.ceiling())
}

// ceiling returns the longest wait before the next try and counts the try.
func (b *backoff) ceiling() time.Duration {
	ceiling := min(backoffBase<<min(b.tries, 16), backoffLimit)
	b.tries++
	return ceiling
}

func (b *backoff) reset() { b.tries = 0 }

// within returns a random time from 0 to d.
func within(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1) //nolint:gosec // jitter is no secret
}

// pause waits. It fails only when the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
