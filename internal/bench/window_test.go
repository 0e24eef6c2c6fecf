package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

// TestWindowBound: however many publishers and readers there are, no more messages
// than the window's size are in flight, and each ends once.
func TestWindowBound(t *testing.T) {
	t.Parallel()
	const size, publishers, messages, sockets = 8, 16, 500, 3
	w := newWindow(size)
	type begun struct {
		slot uint16
		key  uint64
	}
	var inFlight, ended atomic.Int64
	deliveries := [sockets]chan begun{}
	for i := range deliveries {
		deliveries[i] = make(chan begun, publishers*messages)
	}
	var readers, writers sync.WaitGroup
	for i := range sockets {
		readers.Go(func() {
			for m := range deliveries[i] {
				if _, _, done := w.delivered(m.slot, m.key, 1, 1); done {
					inFlight.Add(-1)
					ended.Add(1)
				}
			}
		})
	}
	for p := range publishers {
		writers.Go(func() {
			for n := range messages {
				slot, ok := w.acquire(t.Context())
				if !ok {
					return
				}
				// The place was freed before its end was counted, so one a reader may be on top.
				if got := inFlight.Add(1); got > size+sockets {
					t.Errorf("%d in flight", got)
				}
				key := keyOf(uint32(p), uint32(n))
				w.begin(slot, key, sockets, 0)
				for i := range deliveries {
					deliveries[i] <- begun{slot, key}
				}
			}
		})
	}
	writers.Wait()
	for i := range deliveries {
		close(deliveries[i])
	}
	readers.Wait()
	if !w.idle() || ended.Load() != publishers*messages {
		t.Errorf("idle %t, %d messages ended, want %d", w.idle(), ended.Load(), publishers*messages)
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	w := newWindow(1)
	key, next := keyOf(0, 0), keyOf(7, 1)
	slot, ok := w.acquire(t.Context())
	if !ok || w.idle() {
		t.Fatalf("acquire: %t, idle %t", ok, w.idle())
	}
	w.begin(slot, key, 3, 100)
	if _, ok := w.tryAcquire(); ok {
		t.Error("acquired a second place of one")
	}
	if _, _, done := w.delivered(slot, next, 3, 300); done {
		t.Error("another message's deliveries ended this one")
	}
	if _, _, done := w.delivered(slot, key, 2, 300); done {
		t.Error("done before the last delivery")
	}
	sent, last, done := w.delivered(slot, key, 1, 200)
	if !done || sent != 100 || last != 300 {
		t.Errorf("got %d, %d, %t, want the latest delivery of all", sent, last, done)
	}
	if _, _, done := w.delivered(slot, key, 1, 400); done || w.end(slot, key) {
		t.Error("ended twice")
	}

	slot, _ = w.acquire(t.Context())
	w.begin(slot, next, 1, 0)
	if got := w.of(7); len(got) != 1 || got[slot] != next || len(w.of(0)) != 0 {
		t.Errorf("of room 7: %v", got)
	}
	if got := w.giveUp(); got != 1 || !w.idle() {
		t.Errorf("gave %d up, idle %t", got, w.idle())
	}
	slot, _ = w.acquire(t.Context())
	w.begin(slot, key, 0, 0) // nobody is there to get it
	if !w.idle() {
		t.Error("a message without deliveries holds its place")
	}
}

func TestAcquireEnds(t *testing.T) {
	t.Parallel()
	w := newWindow(1)
	w.acquire(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := w.acquire(ctx); ok {
		t.Error("acquired a place that is taken")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, want := range [][2]uint32{{0, 0}, {0, 1}, {1, 0}, {1<<32 - 1, 1<<30 - 1}} {
		key := keyOf(want[0], want[1])
		room, seq := splitKey(key)
		if key == 0 || room != want[0] || seq != want[1] {
			t.Errorf("key %d of %v splits into %d and %d", key, want, room, seq)
		}
	}
}
