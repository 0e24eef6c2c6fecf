package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// quietSource is a bus that says nothing by itself.
type quietSource struct {
	head    room.Position
	silent  bool // rooms are never opened
	stopped int
}

func (q *quietSource) Listen(r *Room) func() {
	if !q.silent {
		go r.Opened(q.head)
	}
	return func() { q.stopped++ }
}

// reader is a subscriber that keeps what it is given.
type reader struct {
	user   string
	behind []*Cursor
}

func (r *reader) Behind(c *Cursor) { r.behind = append(r.behind, c) }
func (r *reader) User() string     { return r.user }

func newTestHub(t testing.TB, source Source, namespaces map[string]room.Policy) *Hub {
	t.Helper()
	policies, err := room.NewPolicies(namespaces)
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Policies: policies, Source: source, RingMessages: 8, RingBytes: 4096,
		Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler),
	})
}

func ephemeral() map[string]room.Policy {
	p := room.DefaultPolicy()
	p.History.Size = 0
	return map[string]room.Policy{"eph": p}
}

func mustJoin(t testing.TB, h *Hub, name room.Name, after room.Position, sub Subscriber) (*Cursor, room.Position) {
	t.Helper()
	c, pos, err := h.Join(t.Context(), name, after, sub)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	t.Cleanup(c.Leave)
	c.Start()
	return c, pos
}

func at(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq, Check: uint32(seq) + 7} }

func message(name room.Name, seq uint64) *room.Message {
	p := at(seq)
	return &room.Message{
		Room: name, Position: p, ID: p.String(), Time: time.Unix(1_700_000_000, 0),
		Payload: room.Payload{Kind: room.Text, Bytes: fmt.Append(nil, seq)},
	}
}

// shown is what a frame tells: "m 5", "m 5 replayed", "gap RESET".
func shown(t testing.TB, frame []byte) string {
	t.Helper()
	var f struct {
		Message *struct {
			Text     string
			Replayed bool
		}
		Gap *struct{ Reason string }
	}
	body := frame[bytes.IndexByte(frame, '{'):]
	if err := json.Unmarshal(body, &f); err != nil {
		t.Fatalf("frame %q: %v", frame, err)
	}
	switch {
	case f.Gap != nil:
		return "gap " + f.Gap.Reason
	case f.Message.Replayed:
		return "m " + f.Message.Text + " replayed"
	default:
		return "m " + f.Message.Text
	}
}

func take(t testing.TB, c *Cursor) ([]string, State) {
	t.Helper()
	frames, state := c.Take(nil, 64, time.Unix(1_700_000_100, 0))
	var all []string
	for _, f := range frames {
		all = append(all, shown(t, f))
	}
	return all, state
}

func wantTake(t testing.TB, c *Cursor, state State, want ...string) {
	t.Helper()
	got, gotState := take(t, c)
	if fmt.Sprint(got) != fmt.Sprint(want) || gotState != state {
		t.Fatalf("took %v (state %d), want %v (state %d)", got, gotState, want, state)
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	var sub reader
	c, pos := mustJoin(t, h, "a", room.Position{}, &sub)
	if pos != at(10) {
		t.Errorf("joined at %v, want the head", pos)
	}
	wantTake(t, c, Current)
	for seq := uint64(11); seq <= 13; seq++ {
		c.room.Append(message("a", seq))
	}
	if len(sub.behind) != 1 {
		t.Errorf("told behind %d times, want once until the cursor is current", len(sub.behind))
	}
	wantTake(t, c, Current, "m 11", "m 12", "m 13")
	c.room.Append(message("a", 14))
	if len(sub.behind) != 2 {
		t.Errorf("told behind %d times, want again after the cursor was current", len(sub.behind))
	}
}

func TestNothingBeforeStartOrAfterLeave(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	var sub reader
	c, _, err := h.Join(t.Context(), "a", room.Position{}, &sub)
	if err != nil {
		t.Fatal(err)
	}
	c.room.Append(message("a", 11))
	if len(sub.behind) != 0 {
		t.Fatal("told behind before Start")
	}
	c.Start()
	if len(sub.behind) != 1 {
		t.Fatal("not told behind by Start, though a message came before it")
	}
	c.Leave()
	wantTake(t, c, Current)
}

func TestWithheld(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	ann, _ := mustJoin(t, h, "a", room.Position{}, &reader{user: "ann"})
	bob, _ := mustJoin(t, h, "a", room.Position{}, &reader{user: "bob"})
	excluded := message("a", 11)
	excluded.ExcludeUser = "ann"
	expired := message("a", 12)
	expired.Expires = time.Unix(1_700_000_099, 0)
	ann.room.Append(excluded)
	ann.room.Append(expired)
	ann.room.Append(message("a", 13))
	wantTake(t, ann, Current, "m 13")
	wantTake(t, bob, Current, "m 11", "m 13")
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	watermark := func(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq} }
	other := at(14)
	other.Check++
	// The ring holds 13 to 20; the room was opened at 10.
	tests := map[string]struct {
		after room.Position
		state State
		want  []string
	}{
		"head":                          {at(20), Current, nil},
		"in the ring":                   {at(18), Current, []string{"m 19 replayed", "m 20 replayed"}},
		"just before the ring":          {at(12), Current, []string{"m 13 replayed", "m 14 replayed", "m 15 replayed", "m 16 replayed", "m 17 replayed", "m 18 replayed", "m 19 replayed", "m 20 replayed"}},
		"behind the ring":               {at(11), InLog, nil},
		"another check":                 {other, InLog, nil},
		"above the head":                {at(21), InLog, nil},
		"another epoch":                 {room.Position{Epoch: "x", Seq: 18, Check: 3}, InLog, nil},
		"a watermark in the ring":       {watermark(18), Current, []string{"m 19 replayed", "m 20 replayed"}},
		"a watermark behind the ring":   {watermark(9), InLog, nil},
		"a watermark above the head":    {watermark(25), InLog, nil},
		"a watermark just at the floor": {watermark(12), Current, []string{"m 13 replayed", "m 14 replayed", "m 15 replayed", "m 16 replayed", "m 17 replayed", "m 18 replayed", "m 19 replayed", "m 20 replayed"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestHub(t, &quietSource{head: at(10)}, nil)
			keep, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
			for seq := uint64(11); seq <= 20; seq++ {
				keep.room.Append(message("a", seq))
			}
			c, pos := mustJoin(t, h, "a", test.after, &reader{})
			if pos != test.after {
				t.Errorf("stands at %v, want %v", pos, test.after)
			}
			wantTake(t, c, test.state, test.want...)
			if test.state == Current {
				c.room.Append(message("a", 21))
				wantTake(t, c, Current, "m 21")
			}
		})
	}
}

func TestRefillReachesTheRing(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	c, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	for seq := uint64(11); seq <= 40; seq++ {
		c.room.Append(message("a", seq))
	}
	wantTake(t, c, InLog)
	page := room.Page{More: true}
	for seq := uint64(11); seq <= 25; seq++ {
		page.Messages = append(page.Messages, message("a", seq))
	}
	page.Last = at(25)
	frames, progress := c.Refill(nil, page, time.Now())
	if len(frames) != 15 || !progress {
		t.Fatalf("refill gave %d frames, progress %v; want 15, true", len(frames), progress)
	}
	wantTake(t, c, InLog) // the ring begins at 33
	page = room.Page{Last: at(34)}
	for seq := uint64(26); seq <= 34; seq++ {
		page.Messages = append(page.Messages, message("a", seq))
	}
	c.Refill(nil, page, time.Now())
	wantTake(t, c, Current, "m 35", "m 36", "m 37", "m 38", "m 39", "m 40")
}

func TestRefillTells(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		page room.Page
		want []string
		then []string
	}{
		"another log": {
			room.Page{Gap: room.Reset},
			[]string{"gap RESET"},
			nil,
		},
		"messages that have left": {
			room.Page{Gap: room.Truncated, Messages: []*room.Message{message("a", 32)}, Last: at(32)},
			[]string{"gap TRUNCATED", "m 32 replayed"},
			[]string{"m 33 replayed", "m 34 replayed", "m 35 replayed", "m 36 replayed", "m 37 replayed", "m 38 replayed", "m 39 replayed", "m 40 replayed"},
		},
		"an emptied log": {
			room.Page{Gap: room.Truncated},
			[]string{"gap TRUNCATED"},
			[]string{"m 33 replayed", "m 34 replayed", "m 35 replayed", "m 36 replayed", "m 37 replayed", "m 38 replayed", "m 39 replayed", "m 40 replayed"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTestHub(t, &quietSource{head: at(10)}, nil)
			keep, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
			for seq := uint64(11); seq <= 40; seq++ {
				keep.room.Append(message("a", seq))
			}
			c, _ := mustJoin(t, h, "a", at(5), &reader{})
			wantTake(t, c, InLog)
			frames, _ := c.Refill(nil, test.page, time.Now())
			var got []string
			for _, f := range frames {
				got = append(got, shown(t, f))
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			wantTake(t, c, Current, test.then...)
		})
	}
}

func TestLogThatStaysBehind(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	c, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	for seq := uint64(11); seq <= 20; seq++ {
		c.room.Append(message("a", seq))
	}
	wantTake(t, c, InLog)
	now := time.Now()
	if frames, progress := c.Refill(nil, room.Page{}, now); len(frames) != 0 || progress {
		t.Fatalf("got %d frames, progress %v from a log that shows nothing", len(frames), progress)
	}
	frames, progress := c.Refill(nil, room.Page{}, now.Add(patience))
	if len(frames) != 1 || shown(t, frames[0]) != "gap TRUNCATED" || !progress {
		t.Fatalf("got %d frames, want one gap after the patience", len(frames))
	}
	got, state := take(t, c)
	if len(got) != 8 || state != Current {
		t.Errorf("got %v, want the ring", got)
	}
}

func TestBreak(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	current, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	behind, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	current.room.Append(message("a", 11))
	wantTake(t, current, Current, "m 11")
	head := room.Position{Epoch: "f", Seq: 3}
	current.room.Break(room.Reset, head)
	next := message("a", 4)
	next.Position = room.Position{Epoch: "f", Seq: 4, Check: 9}
	current.room.Append(next)
	wantTake(t, current, Current, "gap RESET", "m 4")
	wantTake(t, behind, InLog) // its log tells
	late, pos := mustJoin(t, h, "a", room.Position{}, &reader{})
	if pos.Epoch != "f" || pos.Seq != 4 {
		t.Errorf("a late joiner stands at %v", pos)
	}
	wantTake(t, late, Current)
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{}, ephemeral())
	c, pos := mustJoin(t, h, "eph:a", room.Position{}, &reader{})
	if !pos.IsZero() {
		t.Errorf("position %v in an ephemeral room", pos)
	}
	resumed, _ := mustJoin(t, h, "eph:a", at(3), &reader{})
	wantTake(t, resumed, Current, "gap RESET")
	for seq := uint64(1); seq <= 10; seq++ {
		m := message("eph:a", seq)
		m.Position = room.Position{}
		c.room.Append(m)
	}
	wantTake(t, c, Current, "gap OVERFLOW", "m 3", "m 4", "m 5", "m 6", "m 7", "m 8", "m 9", "m 10")
}

func TestJoinWaitsForTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &quietSource{silent: true}
		h := newTestHub(t, source, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		_, _, err := h.Join(ctx, "a", room.Position{}, &reader{})
		if e := room.AsError(err); e.Kind != room.Unavailable {
			t.Errorf("got %v, want unavailable", err)
		}
		if h.Rooms() != 0 || source.stopped != 1 {
			t.Errorf("%d rooms, interest ended %d times; want 0, 1", h.Rooms(), source.stopped)
		}
	})
}

func TestRingBounds(t *testing.T) {
	t.Parallel()
	g := ring{maxMessages: 100, maxBytes: 1000}
	for seq := uint64(1); seq <= 50; seq++ {
		m := message("a", seq)
		m.Payload.Bytes = bytes.Repeat([]byte("x"), 200)
		g.push(newEntry(m))
	}
	if g.bytes > 1000 || g.end-g.first < 2 {
		t.Errorf("ring holds %d entries of %d bytes; the bound is 1000 bytes", g.end-g.first, g.bytes)
	}
	if g.floor != at(50-(g.end-g.first)) {
		t.Errorf("floor is %v with %d entries", g.floor, g.end-g.first)
	}
	huge := message("a", 51)
	huge.Payload.Bytes = bytes.Repeat([]byte("x"), 5000)
	g.push(newEntry(huge))
	if g.end-g.first != 1 {
		t.Errorf("ring holds %d entries after one over the bound, want that one", g.end-g.first)
	}
}

func TestAppendAllocs(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	c, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	m := message("a", 11)
	// The frame; the ring has grown before.
	for range 20 {
		c.room.Append(m)
	}
	if n := testing.AllocsPerRun(100, func() { c.room.Append(m) }); n > 1 {
		t.Errorf("Append allocates %v times a message, want once: its frame", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, cursors := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("cursors=%d", cursors), func(b *testing.B) {
			h := newTestHub(b, &quietSource{head: at(10)}, nil)
			var c *Cursor
			for range cursors {
				c, _ = mustJoin(b, h, "a", room.Position{}, &reader{})
			}
			m := message("a", 11)
			b.ReportAllocs()
			for b.Loop() {
				c.room.Append(m)
			}
		})
	}
}
