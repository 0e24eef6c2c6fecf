package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// drain waits for the last deliveries of what was published.
func (b *Bench) drain(ctx context.Context, loads []*load) error {
	deadline := time.Now().Add(b.cfg.Patience)
	for _, l := range loads {
		if err := waitUntil(ctx, deadline, l.window.idle); err != nil {
			return err
		}
		if n := l.window.giveUp(); n > 0 {
			b.problems.note(&b.problems.unfinished, "%d messages were not delivered to all sockets within %s after the last publish", n, b.cfg.Patience)
			b.problems.unfinished.Add(int64(n) - 1)
		}
	}
	return nil
}

// waitUntil waits for something, until a deadline. The error is ctx's.
func waitUntil(ctx context.Context, deadline time.Time, done func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() && time.Now().Before(deadline) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// maxRefused is how many refused messages end a run: nothing that it measures is of use.
const maxRefused = 10_000

// wait lets the load run for a time, unless there is none any more.
func (b *Bench) wait(ctx context.Context, d time.Duration) error {
	return b.waitAtLeast(ctx, d, func() bool { return true })
}

// waitAtLeast is wait that goes on until something is enough.
func (b *Bench) waitAtLeast(ctx context.Context, d time.Duration, enough func() bool) error {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	over := false
	for !over || !enough() {
		select {
		case <-timeout.C:
			over = true
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if b.problems.refused.Load() > maxRefused || b.problems.closed.Load() >= b.connected.Load() {
				return fmt.Errorf("given up: %w", errors.Join(b.problems.firstExamples()...))
			}
		}
	}
	return nil
}

// enter begins a phase.
func (b *Bench) enter(name Phase) { b.phase.Store(&phase{name: name, began: time.Now()}) }

// tell reports progress until the function that it returns is called, which waits for
// the last report.
func (b *Bench) tell() (stop func()) {
	if b.cfg.Progress == nil {
		return func() {}
	}
	stopping, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		var meter rate
		for {
			select {
			case <-tick.C:
				if p := b.phase.Load(); p != nil {
					b.cfg.Progress(b.status(p, meter.of(b.deliveries(), time.Now())))
				}
			case <-stopping:
				return
			}
		}
	}()
	return func() {
		close(stopping)
		<-ended
	}
}

func (b *Bench) status(p *phase, rate float64) Status {
	return Status{
		Phase: p.name, Connected: int(b.connected.Load()), Sockets: b.sockets(),
		Elapsed: time.Since(p.began), Rate: rate, Problems: b.problems.total(),
	}
}

func (b *Bench) deliveries() (n uint64) {
	for _, l := range b.loads() {
		n += l.counts().deliveries
	}
	return n
}

func (b *Bench) sockets() (n int) {
	for _, l := range b.loads() {
		n += l.Sockets + l.Stalled
	}
	return n
}

// stopReaders closes the sockets. It may be called again.
func (b *Bench) stopReaders() {
	for _, l := range b.loads() {
		l.ending.Store(true)
	}
	for _, r := range b.readers {
		r.stop()
	}
	b.readers = nil
}

// rate is how fast a count grows: over about the last second.
type rate struct {
	at    time.Time
	count uint64
	last  float64
}

func (r *rate) of(count uint64, now time.Time) float64 {
	if took := now.Sub(r.at); took >= time.Second {
		if !r.at.IsZero() {
			r.last = float64(count-r.count) / took.Seconds()
		}
		r.at, r.count = now, count
	}
	return r.last
}
