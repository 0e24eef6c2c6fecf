package bench

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestStalledByHand: a socket beside the window, which misses three messages and gets
// some of them later, or closes. The window and the latencies know nothing of it.
func TestStalledByHand(t *testing.T) {
	t.Parallel()
	type frames = [][]byte
	tests := map[string]struct {
		later   func(f frames) frames // of three messages
		closes  bool
		lagging int
		want    Errors
	}{
		"everything":    {func(f frames) frames { return f }, false, 0, Errors{}},
		"nothing":       {func(frames) frames { return nil }, false, 1, Errors{Lost: 3}},
		"not the first": {func(f frames) frames { return f[1:] }, false, 1, Errors{Lost: 1}},
		"one again":     {func(f frames) frames { return append(frames{f[0]}, f...) }, false, 0, Errors{Duplicated: 1}},
		"out of order":  {func(f frames) frames { return frames{f[0], f[2], f[1]} }, false, 0, Errors{Reordered: 1}},
		"closed":        {func(f frames) frames { return f[:1] }, true, 0, Errors{Closed: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Load{Rooms: 1, Sockets: 1, Stalled: 1, InFlight: 4, Publishers: 1, Payload: 64})
			s := w.stalled[0]
			s.conn, s.subscribed = w, true
			f := w.publish(t, 3)
			w.mustFeed(t, w.sockets[0], f...)
			if !w.window.idle() {
				t.Error("the window waits for a socket beside it")
			}
			w.expectAll()
			if s.behind != 3 || w.aside.lagging != 1 {
				t.Errorf("%d messages behind, %d sockets lagging, want 3 of 1", s.behind, w.aside.lagging)
			}
			w.mustFeed(t, s, test.later(f)...)
			if test.closes {
				s.end(errors.New("closed"))
			}
			if w.aside.lagging != test.lagging {
				t.Errorf("%d sockets lagging, want %d", w.aside.lagging, test.lagging)
			}
			got := w.problems.errors(w.audit())
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Errors{}, "Examples")); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if all, _ := w.latencies(); all.n != 3 || w.counts().deliveries != 3 {
				t.Errorf("%d latencies of %d deliveries, want those of the other socket", all.n, w.counts().deliveries)
			}
		})
	}
}

// TestBehindAGoal: what comes early and belongs to a later goal is not counted.
func TestBehindAGoal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Load{Rooms: 1, Sockets: 1, Stalled: 1, InFlight: 8, Publishers: 4, Payload: 64})
	s := w.stalled[0]
	s.conn, s.subscribed = w, true
	f := w.publish(t, 3)
	w.mustFeed(t, s, f[2])
	w.expectAll()
	later := w.publish(t, 2)
	w.mustFeed(t, s, later[1], f[1])
	if s.behind != 1 {
		t.Errorf("%d behind the goal, want 1: the second of three is there, and what came after them does not count", s.behind)
	}
	w.mustFeed(t, s, f[0])
	if s.behind != 0 || w.aside.lagging != 0 {
		t.Errorf("%d behind, %d lagging, want none", s.behind, w.aside.lagging)
	}
}
