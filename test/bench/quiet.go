package main

import (
	"context"
	"runtime"
	"time"

	"github.com/roomcast/roomcast/internal/bench"
)

// quietPatience is how long a run waits for a second in which nobody uses the machine.
// After it the run begins all the same; what disturbs it is in its report.
const quietPatience = 30 * time.Second

// awaitQuiet waits for a second in which at most a share of the machine is used.
func awaitQuiet(ctx context.Context, share float64) (waited time.Duration, err error) {
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before, err := bench.MachineBusy()
	if err != nil {
		return 0, err
	}
	at := began
	for time.Since(began) < quietPatience {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		busy, err := bench.MachineBusy()
		if err != nil {
			return 0, err
		}
		used := (busy - before).Seconds() / time.Since(at).Seconds() / float64(runtime.NumCPU())
		if used <= share {
			break
		}
		before, at = busy, time.Now()
	}
	return time.Since(began), nil
}

// disturbance is the share of the machine that something else used in a run: the most in
// one of several.
func disturbance(m *measurement) (share float64) {
	for _, r := range m.reports() {
		share = max(share, othersShare(&r.Usage))
		if r.Idle != nil { // then the connecting is what counts
			share = max(share, othersShare(&r.Connect.Usage))
		}
	}
	return share
}

func othersShare(u *bench.Usage) float64 { return u.Other / u.Seconds / float64(runtime.NumCPU()) }
