package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
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

// pages is a log that answers from a script: one page for each read, the last one
// again and again.
type pages struct {
	mu    sync.Mutex
	list  []room.Page
	reads []room.Position
	slow  time.Duration // static; each answer is so long on its way
	lags  bool          // guarded by mu: the log has more than it answers
}

func (p *pages) Ends(context.Context, room.Name, room.Position) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.lags, nil
}

func (p *pages) Read(_ context.Context, _ room.Name, after room.Position, _ int) (room.Page, error) {
	page, err := p.next(after)
	if p.slow > 0 {
		<-time.After(p.slow)
	}
	return page, err
}

func (p *pages) next(after room.Position) (room.Page, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads = append(p.reads, after)
	if len(p.list) == 0 {
		return room.Page{}, errors.New("nothing is to be read")
	}
	page := p.list[0]
	if len(p.list) > 1 {
		p.list = p.list[1:]
	}
	return page, nil
}

func (p *pages) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reads)
}

// world is a hub and one lane, whose goroutine is the test's.
type world struct {
	*Hub
	t     testing.TB
	lane  *Lane
	parts []*Part

	readers int // joined

	mu    sync.Mutex
	turns []*Cursor
}

func newWorld(t testing.TB, source Source, log *pages) *world {
	t.Helper()
	eph, strict := room.DefaultPolicy(), room.DefaultPolicy()
	eph.History.Size = 0
	strict.Slow = room.SlowDisconnect
	policies, err := room.NewPolicies(map[string]room.Policy{"eph": eph, "strict": strict})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.Hub = New(Config{
		Policies: policies, Source: source, Log: log, RingMessages: 8, RingBytes: 4096,
		Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(w.Close)
	w.lane = NewLane(func(p *Part) { w.parts = append(w.parts, p) })
	return w
}

// settle gives turns until nobody wants one. In a bubble it waits for the log too.
func (w *world) settle() {
	for {
		w.mu.Lock()
		turns := w.turns
		w.turns = nil
		w.mu.Unlock()
		if len(turns)+len(w.parts) == 0 {
			return
		}
		for _, c := range turns {
			r := c.sub.(*reader) //nolint:forcetypeassert // there is no other
			for r.state = More; r.state == More; {
				r.state = w.lane.Serve(c, maxFrames, now())
			}
		}
		for len(w.parts) > 0 {
			p := w.parts[0]
			w.parts = w.parts[1:]
			for w.lane.Walk(p, now()) {
			}
		}
	}
}

func now() time.Time { return time.Unix(1_700_000_100, 0) }

// reader is a subscriber that keeps what it is given.
type reader struct {
	w      *world
	user   string
	name   string // of its connection
	format wire.Format
	room   int // frames that it takes; 0 = all, -1 = none
	got    []string
	behind int
	state  State
	quiet  bool   // keep nothing
	during func() // nil, or called while it takes something
}

func (r *reader) User() string        { return r.user }
func (r *reader) Connection() string  { return r.name }
func (r *reader) Format() wire.Format { return r.format }
func (r *reader) Lane() *Lane         { return r.w.lane }

func (r *reader) Behind(c *Cursor) {
	r.behind++
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.turns = append(r.w.turns, c)
}

func (r *reader) Deliver(c *Cursor, frames [][]byte) int {
	if c.Left() || r.room < 0 {
		return 0
	}
	if r.room > 0 {
		frames = frames[:min(r.room, len(frames))]
		if r.room -= len(frames); r.room == 0 {
			r.room = -1
		}
	}
	for _, f := range frames {
		if !r.quiet {
			r.got = append(r.got, shown(r.w.t, f))
		}
	}
	if r.during != nil {
		r.during()
	}
	return len(frames)
}

// join makes a started cursor of a new reader.
func (w *world) join(name room.Name, after room.Position) (*Cursor, *reader) {
	w.t.Helper()
	w.readers++
	r := &reader{w: w, user: "ann", name: fmt.Sprint("c", w.readers)}
	c, pos, err := w.Join(w.t.Context(), time.Now().Add(time.Minute), name, after, r)
	if err != nil {
		w.t.Fatalf("join: %v", err)
	}
	want := after
	if after.IsZero() {
		want = c.part.room.head
	}
	if !c.part.room.Policy.Stored() {
		want = room.Position{}
	}
	if pos != want {
		w.t.Errorf("joined at %v, want %v", pos, want)
	}
	w.t.Cleanup(c.Leave)
	c.Start()
	return c, r
}

// want settles and compares what the reader has got since.
func (r *reader) want(state State, want ...string) {
	r.w.t.Helper()
	r.w.settle()
	if fmt.Sprint(r.got) != fmt.Sprint(want) || r.state != state {
		r.w.t.Fatalf("got %v (state %d), want %v (state %d)", r.got, r.state, want, state)
	}
	r.got = nil
}

func at(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq, Check: uint32(seq) + 7} }

func message(name room.Name, seq uint64) *room.Message {
	p := at(seq)
	return &room.Message{
		Room: name, Position: p, ID: p.String(), Time: time.Unix(1_700_000_000, 0),
		Payload: room.Payload{Kind: room.Text, Bytes: fmt.Append(nil, seq)},
	}
}

// messages returns those from one sequence to another.
func messages(from, to uint64) []*room.Message {
	var list []*room.Message
	for seq := from; seq <= to; seq++ {
		list = append(list, message("a", seq))
	}
	return list
}

// texts is how they are shown.
func texts(from, to uint64, mark string) []string {
	var list []string
	for seq := from; seq <= to; seq++ {
		list = append(list, fmt.Sprint("m ", seq, mark))
	}
	return list
}

func (c *Cursor) append(from, to uint64) {
	for _, m := range messages(from, to) {
		c.part.room.Append(m)
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
	if frame[0]&0xF == byte(wire.OpBinary) {
		return fmt.Sprintf("%d bytes", len(frame))
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

func TestLive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, r := w.join("a", room.Position{})
	r.want(Current)
	c.append(11, 13)
	if len(w.parts) != 1 || r.behind != 0 {
		t.Errorf("queued %d times, %d turns of its own; want once until the part is current, and none", len(w.parts), r.behind)
	}
	r.want(Current, texts(11, 13, "")...)
	c.append(14, 14)
	r.want(Current, "m 14")
}

func TestNothingBeforeStartOrAfterLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	r := &reader{w: w}
	c, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", room.Position{}, r)
	if err != nil {
		t.Fatal(err)
	}
	c.append(11, 11)
	r.want(Current)
	c.Start()
	r.want(Current, "m 11")
	c.append(12, 12)
	c.Leave()
	r.want(Current)
}

func TestWithheld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, ann := w.join("a", room.Position{})
	_, bob := w.join("a", room.Position{})
	bob.user = "bob"
	excluded := message("a", 11)
	excluded.ExcludeUser = "ann"
	expired := message("a", 12)
	expired.Expires = time.Unix(1_700_000_099, 0)
	c.part.room.Append(excluded)
	c.part.room.Append(expired)
	c.append(13, 13)
	ann.want(Current, "m 13")
	bob.want(Current, "m 11", "m 13")
	c.append(14, 14)
	ann.want(Current, "m 14")
}

func TestFormats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, text := w.join("a", room.Position{})
	binary := &reader{w: w, format: wire.Protobuf}
	other, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", room.Position{}, binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Leave)
	other.Start()
	c.append(11, 11)
	text.want(Current, "m 11")
	binary.want(Current, fmt.Sprint(len(wire.MessageFrame(wire.Protobuf, message("a", 11), false)), " bytes"))
}

// TestFullGetsTheRest: a subscriber that takes less than there is leaves the walk, and
// comes back to it.
func TestFullGetsTheRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, full := w.join("a", room.Position{})
	_, other := w.join("a", room.Position{})
	full.room = 2
	c.append(11, 15)
	full.want(Full, "m 11", "m 12")
	other.want(Current, texts(11, 15, "")...)
	if len(c.part.cursors) != 1 {
		t.Errorf("%d cursors walk, want the other one", len(c.part.cursors))
	}
	full.room = 0
	full.Behind(c)
	full.want(Current, texts(13, 15, "")...)
	c.append(16, 16)
	full.want(Current, "m 16")
	other.want(Current, "m 16")
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	watermark := func(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq} }
	moment := func(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq, Moment: 7} }
	other := at(14)
	other.Check++
	// The ring holds 13 to 20; the room was opened at 10.
	tests := map[string]struct {
		after room.Position
		log   bool // is read
		first uint64
	}{
		"head":                          {at(20), false, 21},
		"in the ring":                   {at(18), false, 19},
		"just before the ring":          {at(12), false, 13},
		"behind the ring":               {at(11), true, 0},
		"another check":                 {other, true, 0},
		"above the head":                {at(21), true, 0},
		"another epoch":                 {room.Position{Epoch: "x", Seq: 18, Check: 3}, true, 0},
		"a watermark in the ring":       {watermark(18), false, 19},
		"a watermark behind the ring":   {watermark(9), true, 0},
		"a watermark above the head":    {watermark(25), true, 0},
		"a watermark just at the floor": {watermark(12), false, 13},
		"a moment in the ring":          {moment(18), true, 0}, // maybe of another past
		"a moment at the floor":         {moment(12), true, 0}, // a message stands there
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &quietSource{head: at(10)}, &pages{})
			keep, _ := w.join("a", room.Position{})
			keep.append(11, 20)
			w.settle()
			c, r := w.join("a", test.after)
			if test.log {
				r.want(Waiting)
				return
			}
			r.want(Current, texts(test.first, 20, " replayed")...)
			c.append(21, 21)
			r.want(Current, "m 21")
		})
	}
}

// inBubble runs a test whose log is read by other goroutines.
func inBubble(t *testing.T, log *pages, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, newWorld(t, &quietSource{head: at(10)}, log))
	})
}

// wantRead is want after the log has been read.
func (r *reader) wantRead(state State, want ...string) {
	r.w.t.Helper()
	for range 5 {
		r.w.settle()
		synctest.Wait()
	}
	r.want(state, want...)
}

func TestLogLeadsToTheRing(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{
		{Messages: messages(11, 25), Last: at(25), More: true},
		{Messages: messages(26, 34), Last: at(34), More: true},
	}}
	inBubble(t, log, func(t *testing.T, w *world) {
		c, r := w.join("a", room.Position{})
		twin, same := w.join("a", room.Position{})
		r.room, same.room = -1, -1
		c.append(11, 40) // the ring begins at 33
		w.settle()
		r.room, same.room = 0, 0
		r.Behind(c)
		r.wantRead(Current, texts(11, 40, "")...)
		same.Behind(twin)
		same.wantRead(Current, texts(11, 40, "")...)
		if n := log.count(); n != 2 {
			t.Errorf("the log was read %d times, want 2 for both", n)
		}
	})
}

func TestLogTells(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		page room.Page
		want []string
	}{
		"another log": {room.Page{Gap: room.Reset}, []string{"gap RESET"}},
		"messages that have left": {
			room.Page{Gap: room.Truncated, Messages: messages(32, 32), Last: at(32)},
			append([]string{"gap TRUNCATED"}, texts(32, 40, " replayed")...),
		},
		"an emptied log": {
			room.Page{Gap: room.Truncated},
			append([]string{"gap TRUNCATED"}, texts(33, 40, " replayed")...),
		},
		"unreadable records": {
			room.Page{Last: at(34), More: true},
			texts(35, 40, " replayed"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, &pages{list: []room.Page{test.page}}, func(t *testing.T, w *world) {
				keep, _ := w.join("a", room.Position{})
				keep.append(11, 40)
				c, r := w.join("a", at(5))
				r.wantRead(Current, test.want...)
				c.append(41, 41)
				r.wantRead(Current, "m 41")
			})
		})
	}
}

// TestGapIsToldOnce though its subscriber takes one frame at a time.
func TestGapIsToldOnce(t *testing.T) {
	t.Parallel()
	page := room.Page{Gap: room.Truncated, Messages: messages(30, 34), Last: at(34)}
	inBubble(t, &pages{list: []room.Page{page}}, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 40)
		c, r := w.join("a", at(5))
		var got []string
		for range 20 {
			r.room = 1
			r.Behind(c)
			for range 3 {
				w.settle()
				synctest.Wait()
			}
			got = append(got, r.got...)
			r.got = nil
		}
		if want := append([]string{"gap TRUNCATED"}, texts(30, 40, " replayed")...); fmt.Sprint(got) != fmt.Sprint(want) {
			w.t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestLogThatStaysBehind(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{}}}
	inBubble(t, log, func(t *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 20)
		_, r := w.join("a", at(10))
		r.wantRead(Waiting)
		<-time.After(patience - time.Millisecond)
		r.wantRead(Waiting)
		if n := log.count(); n < 10 || n > 50 {
			t.Errorf("%d reads while the log is behind, want one a %s", n, logLag)
		}
		<-time.After(logLag + time.Millisecond)
		r.wantRead(Current, append([]string{"gap TRUNCATED"}, texts(13, 20, " replayed")...)...)
	})
}

// A replica is behind for longer than that. The leader says so, and nothing is missing.
func TestReplicaFarBehind(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{}}, lags: true}
	inBubble(t, log, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 20)
		_, r := w.join("a", at(10))
		r.wantRead(Waiting)
		<-time.After(3 * patience)
		r.wantRead(Waiting)
		log.mu.Lock()
		log.list = []room.Page{{Messages: messages(11, 20), Last: at(20)}}
		log.mu.Unlock()
		<-time.After(2 * logLag)
		r.wantRead(Current, texts(11, 20, " replayed")...)
	})
}

func TestBreak(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{Gap: room.Reset}}}, func(t *testing.T, w *world) {
		c, current := w.join("a", room.Position{})
		slow, behind := w.join("a", room.Position{})
		behind.room = -1
		c.append(11, 11)
		current.want(Current, "m 11")
		c.part.room.Break(room.Reset, room.Position{Epoch: "f", Seq: 3})
		next := message("a", 4)
		next.Position = room.Position{Epoch: "f", Seq: 4, Check: 9}
		c.part.room.Append(next)
		current.want(Current, "gap RESET", "m 4")
		behind.room = 0
		behind.Behind(slow)
		behind.wantRead(Current, "gap RESET") // its log tells
		_, late := w.join("a", room.Position{})
		late.want(Current)
	})
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{}, &pages{})
	c, r := w.join("eph:a", room.Position{})
	_, resumed := w.join("eph:a", at(3))
	resumed.want(Current, "gap RESET")
	for seq := uint64(1); seq <= 10; seq++ {
		m := message("eph:a", seq)
		m.Position = room.Position{}
		c.part.room.Append(m)
	}
	r.want(Current, append([]string{"gap OVERFLOW"}, texts(3, 10, "")...)...)
}

// TestTooSlow: a policy may close who is full and falls out of the ring, but not who
// resumes.
func TestTooSlow(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{Messages: messages(6, 16), Last: at(16), More: true}}}, func(_ *testing.T, w *world) {
		c, r := w.join("strict:a", room.Position{})
		r.room = -1
		c.append(11, 11)
		r.want(Full)
		c.append(12, 20)
		r.room = 0
		r.Behind(c)
		r.want(TooSlow)
		_, resumed := w.join("strict:a", at(5))
		resumed.wantRead(Current, texts(6, 20, " replayed")...)
	})
}

// TestFurtherBehindIsTooSlow: the log is not read for ever for who never gets nearer.
func TestFurtherBehindIsTooSlow(t *testing.T) {
	t.Parallel()
	u := &resume{}
	head, pos, clock := at(1000), at(10), now()
	for try := range 3 * catchUpTries {
		for range 3 {
			if !u.gains(head, pos, clock) {
				t.Fatalf("too slow at look %d though it got nearer in between", try)
			}
			clock = clock.Add(catchUpTime / 2)
		}
		if pos.Seq += 10; try%2 == 0 {
			head.Seq += 20
		}
	}
	for try := range catchUpTries {
		if !u.gains(head, pos, clock) && try < catchUpTries-2 {
			t.Fatalf("too slow after %d looks, want %d", try, catchUpTries)
		}
		head.Seq += 20
		clock = clock.Add(catchUpTime)
	}
	if u.gains(head, pos, clock) {
		t.Error("reads on though it falls further behind all the time")
	}
}

func TestJoinWaitsForTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &quietSource{silent: true}
		h := newWorld(t, source, &pages{})
		_, _, err := h.Join(t.Context(), time.Now().Add(15*time.Second), "a", room.Position{}, &reader{w: h})
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
		e := entry{msg: m}
		e.frame(wire.JSON, false)
		g.push(e)
	}
	if g.bytes > 1000 || g.end-g.first < 2 {
		t.Errorf("ring holds %d entries of %d bytes; the bound is 1000 bytes", g.end-g.first, g.bytes)
	}
	if g.floor != at(50-(g.end-g.first)) {
		t.Errorf("floor is %v with %d entries", g.floor, g.end-g.first)
	}
	huge := message("a", 51)
	huge.Payload.Bytes = bytes.Repeat([]byte("x"), 5000)
	e := entry{msg: huge}
	e.frame(wire.JSON, false)
	g.push(e)
	if g.end-g.first != 1 {
		t.Errorf("ring holds %d entries after one over the bound, want that one", g.end-g.first)
	}
}
