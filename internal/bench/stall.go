package bench

import (
	"context"
	"fmt"
	"time"
)

// Stalled is how sockets fared that read nothing for a while.
type Stalled struct {
	Sockets     int     `json:"sockets"`
	Seconds     float64 `json:"seconds"`     // without reading
	LeastBehind int     `json:"leastBehind"` // messages that a socket had not read when it began to again
	MostBehind  int     `json:"mostBehind"`
	CaughtUp    float64 `json:"caughtUpMs"`        // until each had all that was published before they read again; -1 = not within the patience
	Before      Memory  `json:"memoryBefore"`      // when they ceased to read
	During      Memory  `json:"memoryWhenStalled"` // when they had not read for Seconds
	After       Memory  `json:"memoryAfter"`       // when all had everything
}

// notReached is Stalled.CaughtUp of a run in which a socket did not.
const notReached = -1

// stall keeps the sockets of the aside lane from being read for a time. Whoever reads
// them needs the lane's lock, so it is enough to hold that: what arrives stays in the
// kernel, and then with the server.
func (b *Bench) stall(ctx context.Context, before Memory) (found *Stalled, err error) {
	l := b.main
	found = &Stalled{Sockets: l.Stalled, CaughtUp: notReached, Before: before}
	l.aside.mu.Lock()
	defer l.aside.mu.Unlock()
	from, published := l.clock.now(), l.published()
	// Without a message in that time nobody is behind.
	if err := b.waitAtLeast(ctx, b.cfg.Stall, func() bool { return l.published() > published }); err != nil {
		return nil, err
	}
	if found.During, err = b.memory(ctx); err != nil {
		return nil, err
	}
	l.expectAll()
	found.Seconds = time.Duration(l.aside.waiting - from).Seconds()
	found.LeastBehind = l.stalled[0].behind
	for _, s := range l.stalled {
		found.LeastBehind, found.MostBehind = min(found.LeastBehind, s.behind), max(found.MostBehind, s.behind)
	}
	return found, nil
}

// expectAll waits from now on for the stalled sockets to have all messages until now.
// The caller holds the aside lane's mu.
func (l *load) expectAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.now()
	l.aside.lagging, l.aside.waiting, l.aside.caught = 0, now, now
	for _, s := range l.stalled {
		s.goal = l.total(s.room)
		s.behind = s.ledger.missing(s.goal)
		if s.ended {
			s.behind = 0
		} else if s.behind > 0 {
			l.aside.lagging++
		}
	}
}

// catchUp notes that a socket beside the window has got a message, or that nothing is
// to be expected of it any more. The caller holds mu.
func (l *lane) catchUp(s *socket, messages int, now int64) {
	if s.behind == 0 {
		return
	}
	if s.behind -= messages; s.behind == 0 {
		l.lagging--
		l.caught = now
	}
}

// drainStalled waits for the sockets that have stalled to catch up, and then for what
// was published since. It is for when nothing is published any more.
func (b *Bench) drainStalled(ctx context.Context, found *Stalled) error {
	deadline := time.Now().Add(b.cfg.Patience)
	l := b.main.aside
	lagging := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.lagging
	}
	for _, afterwards := range []func(){
		func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			found.CaughtUp = time.Duration(l.caught-l.waiting).Seconds() * 1e3
			l.load.expectAll()
		},
		func() {},
	} {
		if err := waitUntil(ctx, deadline, func() bool { return lagging() == 0 }); err != nil {
			return err
		}
		if n := lagging(); n > 0 {
			b.problems.note(&b.problems.unfinished, "%d sockets that had stalled did not have everything within %s after the last delivery to the others", n, b.cfg.Patience)
			return nil
		}
		afterwards()
	}
	var err error
	found.After, err = b.memory(ctx)
	return err
}

func (s *Stalled) text() string {
	caughtUp := "not all caught up"
	if s.CaughtUp != notReached {
		caughtUp = fmt.Sprintf("all caught up after %.0f ms", s.CaughtUp)
	}
	return fmt.Sprintf("%d sockets for %.2f s, then %d to %d messages behind; %s", s.Sockets, s.Seconds, s.LeastBehind, s.MostBehind, caughtUp)
}
