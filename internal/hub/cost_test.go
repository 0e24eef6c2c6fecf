package hub

import (
	"fmt"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

func TestAppendAllocs(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, r := w.join("a", room.Position{})
	m := message("a", 11)
	deliver := func() {
		c.part.room.Append(m)
		for len(w.parts) > 0 {
			w.lane.Walk(w.parts[0], now())
			w.parts = w.parts[:0]
		}
		r.got = nil
	}
	// The frame; ring and scratch have grown before.
	r.quiet = true
	for range 20 {
		deliver()
	}
	if n := testing.AllocsPerRun(100, deliver); n > 1 {
		t.Errorf("a message allocates %v times from Append to Deliver, want once: its frame", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, cursors := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("cursors=%d", cursors), func(b *testing.B) {
			w := newWorld(b, &quietSource{head: at(10)}, &pages{})
			var c *Cursor
			for range cursors {
				c, _ = w.join("a", room.Position{})
			}
			m := message("a", 11)
			b.ReportAllocs()
			for b.Loop() {
				c.part.room.Append(m)
			}
		})
	}
}

// BenchmarkWalk is a pass over a room's cursors without the writing: what one delivery
// costs beside it.
func BenchmarkWalk(b *testing.B) {
	for _, cursors := range []int{1, 1000, 10000} {
		for _, batch := range []int{1, 8} {
			b.Run(fmt.Sprintf("cursors=%d/messages=%d", cursors, batch), func(b *testing.B) {
				w := newWorld(b, &quietSource{head: at(10)}, &pages{})
				var c *Cursor
				for range cursors {
					cursor, r := w.join("a", room.Position{})
					c, r.quiet = cursor, true
				}
				m := message("a", 11)
				b.ReportAllocs()
				for b.Loop() {
					for range batch {
						c.part.room.Append(m)
					}
					for w.lane.Walk(w.parts[0], now()) {
					}
					w.parts = w.parts[:0]
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*cursors*batch), "ns/delivery")
			})
		}
	}
}

// joinAndLeave is what a socket's subscribe and its end cost the hub.
func joinAndLeave(w *world, r *reader) {
	c, _, err := w.Join(w.t.Context(), time.Time{}, "a", room.Position{}, r)
	if err != nil {
		w.t.Error(err)
		return
	}
	c.Start()
	c.Leave()
}

func TestJoinAllocs(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	w.join("a", room.Position{}) // keeps the room open
	r := &reader{w: w}
	if n := testing.AllocsPerRun(100, func() { joinAndLeave(w, r) }); n > 1 {
		t.Errorf("a join allocates %v times, want once: the cursor", n)
	}
}

func BenchmarkJoin(b *testing.B) {
	w := newWorld(b, &quietSource{head: at(10)}, &pages{})
	w.join("a", room.Position{})
	r := &reader{w: w}
	b.ReportAllocs()
	for b.Loop() {
		joinAndLeave(w, r)
	}
}
