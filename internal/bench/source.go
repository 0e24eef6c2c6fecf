package bench

import (
	"context"
	"time"
)

// source gives publishers their next message: as soon as the window has a place, or
// when it is due.
type source struct {
	load *load
	due  chan int64 // when messages are due; nil = at once
}

// dueAhead is how many due messages may wait for a publisher. Their latency counts
// from when they were due all the same.
const dueAhead = 1024

func newSource(l *load) *source {
	s := &source{load: l}
	if l.Rate > 0 {
		s.due = make(chan int64, dueAhead)
	}
	return s
}

// schedule announces one message each 1/rate seconds until ctx ends. One that comes late
// is not skipped and does not move those after it.
func (s *source) schedule(ctx context.Context) error {
	defer close(s.due)
	clock, err := newSleeper()
	if err != nil {
		return err
	}
	defer clock.close()
	began, interval := s.load.clock.now(), float64(time.Second)/s.load.Rate
	for n := 0; ; n++ {
		due := began + int64(float64(n)*interval)
		for left := due - s.load.clock.now(); left > 0; left = due - s.load.clock.now() {
			if !clock.sleep(ctx, time.Duration(left)) {
				return nil
			}
		}
		select {
		case s.due <- due:
		case <-ctx.Done():
			return nil
		}
	}
}

// next waits for the next message. It reports false when ctx has ended.
func (s *source) next(ctx context.Context) (message, bool) {
	due := int64(0)
	if s.due != nil {
		var ok bool
		if due, ok = <-s.due; !ok {
			return message{}, false
		}
	}
	slot, ok := s.load.window.acquire(ctx)
	if !ok {
		return message{}, false
	}
	if s.due == nil {
		due = s.load.clock.now()
	}
	return s.load.next(slot, due), true
}

// tryNext is next for who has something else to do.
func (s *source) tryNext() (message, bool) {
	slot, ok := s.load.window.tryAcquire()
	if !ok {
		return message{}, false
	}
	if s.due == nil {
		return s.load.next(slot, s.load.clock.now()), true
	}
	select {
	case due, ok := <-s.due:
		if ok {
			return s.load.next(slot, due), true
		}
	default:
	}
	s.load.window.free <- slot
	return message{}, false
}
