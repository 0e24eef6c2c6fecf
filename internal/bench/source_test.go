package bench

import (
	"context"
	"testing"
	"time"
)

// TestSchedule: messages are due at even distances whatever the publishers do, so that
// a slow answer makes latency and not fewer messages.
func TestSchedule(t *testing.T) {
	t.Parallel()
	const rate, count = 2000, 50
	w := newWorld(t, Load{Rooms: 1, Sockets: 1, InFlight: 4, Rate: rate, Payload: 64})
	from := newSource(w.load)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- from.schedule(ctx) }()
	first := <-from.due
	for n := int64(1); n < count; n++ {
		due := <-from.due
		if now := w.clock.now(); now < due {
			t.Errorf("message %d was announced %d ns before it was due", n, due-now)
		}
		if got, want := due-first, n*int64(time.Second)/rate; got != want {
			t.Errorf("message %d is due %d ns after the first, want %d", n, got, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for range from.due { // what was announced before the end
	}
	if _, ok := from.next(t.Context()); ok {
		t.Error("a message after the schedule's end")
	}
}

// TestNext: rooms take turns, and a message counts from when it was due.
func TestNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Load{Rooms: 2, Sockets: 2, InFlight: 4, Rate: 10, Payload: 64})
	from := newSource(w.load)
	for due := range int64(3) {
		from.due <- due
	}
	want := []struct {
		room string
		seq  uint32
	}{{"bench-0", 0}, {"bench-1", 0}, {"bench-0", 1}}
	for due, want := range want {
		m, ok := from.tryNext()
		if !ok {
			t.Fatalf("no message %d", due)
		}
		place := 0
		got, found := w.mark.find([]byte(m.req.GetText()), &place)
		if !found || got.sent != int64(due) || got.seq != want.seq || m.req.GetRoom() != want.room || len(m.req.GetText()) != 64 {
			t.Errorf("message %d: got %+v to %s, want %+v", due, got, m.req.GetRoom(), want)
		}
	}
	if _, ok := from.tryNext(); ok || len(w.window.free) != 1 {
		t.Errorf("got a message that is not due, or its place is lost: %d free", len(w.window.free))
	}
}
