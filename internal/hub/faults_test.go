package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// Part.remove loses an index when every cursor that is left has been visited by
// the round that goes on.
func TestPartIndexes(t *testing.T) {
	t.Parallel()
	p := &Part{}
	all := make([]*Cursor, 65)
	for i := range all {
		all[i] = &Cursor{index: notWalking}
		p.add(all[i])
	}
	p.visited = 64    // one walk of a round
	p.remove(all[64]) // the one that it has not visited leaves
	p.remove(all[0])  // then a visited one
	for i, c := range p.cursors {
		if int(c.index) != i {
			t.Fatalf("the cursor at %d of %d has index %d", i, len(p.cursors), c.index)
		}
	}
}

func TestPartModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := &Part{room: &Room{}}
		var in []*Cursor
		for step := range 200 {
			switch rnd.IntN(4) {
			case 0, 1:
				c := &Cursor{index: notWalking}
				p.add(c)
				in = append(in, c)
			case 2:
				if len(in) > 0 {
					i := rnd.IntN(len(in))
					p.remove(in[i])
					in[i] = in[len(in)-1]
					in = in[:len(in)-1]
				}
			case 3:
				_, _ = p.slice(nil, 3)
			}
			if len(p.cursors) != len(in) {
				t.Fatalf("seed %d step %d: %d cursors, want %d", seed, step, len(p.cursors), len(in))
			}
			for i, c := range p.cursors {
				if int(c.index) != i {
					t.Fatalf("seed %d step %d: the cursor at %d of %d has index %d", seed, step, i, len(p.cursors), c.index)
				}
			}
		}
	}
}

// Through the exported calls: sockets leave while a round goes on. The late joiner
// hears nothing more, or Leave panics with the room's lock held.
func TestLeaveWhileWalked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	var cursors []*Cursor
	for range 66 {
		r := &reader{w: w, quiet: true}
		c, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", room.Position{}, r)
		if err != nil {
			t.Fatal(err)
		}
		c.Start()
		cursors = append(cursors, c)
	}
	cursors[1].append(11, 11)
	w.lane.Walk(w.parts[0], now()) // visits 64 of 66
	cursors[65].Leave()
	cursors[64].Leave()
	cursors[0].Leave() // 63 takes its place, but its index stays 63
	late := &reader{w: w}
	c, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", room.Position{}, late)
	if err != nil {
		t.Fatal(err)
	}
	c.Start()           // it stands at 63
	cursors[63].Leave() // takes late out instead of itself
	w.settle()
	cursors[1].append(12, 12)
	w.settle()
	if fmt.Sprint(late.got) != "[m 12]" {
		t.Errorf("a socket that has joined gets %v, want m 12", late.got)
	}
	defer func() {
		if cause := recover(); cause != nil {
			t.Errorf("Leave panics, with the room's lock held: %v", cause)
		}
	}()
	c.Leave() // its index was 63, of a shorter list
	cursors[62].Leave()
	w.settle()
}

// A quiet room: nobody has ever published in it, other rooms of the namespace go
// on. A position that subscribed gave is good for ever.
func TestQuietRoomResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &pages{list: []room.Page{{}}} // Gap "", no message: proven, nothing followed
		w := newWorld(t, &quietSource{head: room.Position{Epoch: "e", Seq: 1500}}, log)
		_, r := w.join("a", room.Position{Epoch: "e", Seq: 1000})
		for range 100 {
			w.settle()
			<-time.After(50 * time.Millisecond)
			synctest.Wait()
		}
		w.settle()
		t.Logf("%d reads of the log", log.count())
		r.want(Current)
	})
}

// A cursor that was told of a gap, then lost its page, then finds an empty log.
func TestToldThenEmpty(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{
		{Gap: room.Truncated, Messages: messages(32, 34), Last: at(34)},
		{Gap: room.Truncated},
	}}
	inBubble(t, log, func(t *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		for seq := uint64(11); seq <= 40; seq++ {
			keep.append(seq, seq)
			w.settle()
		}
		c, r := w.join("a", at(5))
		r.room = 1 // takes the gap only
		for range 5 {
			w.settle()
			synctest.Wait()
		}
		if fmt.Sprint(r.got) != "[gap TRUNCATED]" {
			t.Fatalf("got %v", r.got)
		}
		w.shelf.drop(c.part.room) // pushed out by others' pages, or by a purge's Break
		r.room = 0
		r.Behind(c)
		for range 200 {
			w.settle()
			synctest.Wait() // no time passes
		}
		if n := log.count(); n > 5 {
			t.Errorf("%d reads of the log without any pause (got %v)", n, r.got)
		}
	})
}

// A hole that is told to a cursor that is ahead of this node moves it back.
func TestAheadPassesGap(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{}}}
	inBubble(t, log, func(t *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		_, r := w.join("a", at(20)) // this node is at 10
		r.wantRead(Current)
		keep.part.room.Break(room.Truncated, room.Position{Epoch: "e", Seq: 14})
		keep.append(15, 21)
		w.settle()
		t.Log(r.got)
		for _, got := range r.got {
			if got == "m 15" || got == "m 20" {
				t.Errorf("%s again: it resumed after 20", got)
			}
		}
	})
}

// With slow: disconnect, a burst above the ring before the flusher comes is not the
// socket's fault.
func TestBurstClosesFastSockets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, r := w.join("strict:a", room.Position{})
	for _, m := range messages(11, 19) { // the ring has 8
		m.Room = "strict:a"
		c.part.room.Append(m)
	}
	w.settle()
	if r.state == TooSlow {
		t.Error("a socket that takes everything at once is too slow")
	}
}

// A panic while a plan is made leaves frames for the next cursor.
func TestPlanAfterPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, r := w.join("a", room.Position{})
	d, other := w.join("b", room.Position{})
	excluded := message("a", 11)
	excluded.ExcludeUser = "zoe"
	c.part.room.Append(excluded) // not plain: by plan
	bad := message("a", 12)
	c.part.room.Append(bad)
	func() {
		defer func() { _ = recover() }()
		c.sub = panicker{r} // or wire panics for one message
		w.lane.Serve(c, maxFrames, now())
	}()
	c.sub = r
	m := message("b", 11)
	m.ExcludeUser = "zoe"
	d.part.room.Append(m)
	other.Behind(d)
	w.settle()
	if fmt.Sprint(other.got) != "[m 11]" || len(w.lane.plan.frames) != 0 {
		t.Errorf("the other room's socket got %v, want m 11", other.got)
	}
}

type panicker struct{ *reader }

func (panicker) Deliver(*Cursor, [][]byte) int { panic("deliver") } //nolint:forbidigo // what the test is about

// Pages put after their room has ended, or in a node whose rings are all cold,
// stay on the shelf.
func TestShelfOfEndedRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{}, func(t *testing.T, w *world) {
		slow := &slowLog{answer: make(chan room.Page)}
		w.cfg.Log = slow
		c, _ := w.join("a", at(5))
		w.settle() // asks
		synctest.Wait()
		c.Leave() // the room ends while the page is read
		slow.answer <- room.Page{Messages: messages(6, 9), Last: at(9), More: true}
		<-time.After(10 * idleAfter)
		synctest.Wait()
		if w.shelf.bytes != 0 {
			t.Errorf("%d bytes, %d rooms on the shelf of a hub with %d rooms", w.shelf.bytes, len(w.shelf.rooms), w.Rooms())
		}
	})
}

type slowLog struct{ answer chan room.Page }

func (l *slowLog) Read(context.Context, room.Name, room.Position, int) (room.Page, error) {
	return <-l.answer, nil
}

func (l *slowLog) Ends(context.Context, room.Name, room.Position) (bool, error) { return true, nil }

func TestShelfOfQuietNode(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{Messages: messages(6, 9), Last: at(9), More: true}, {Messages: messages(10, 10), Last: at(10)}}}
	inBubble(t, log, func(t *testing.T, w *world) {
		_, r := w.join("a", at(5))
		r.wantRead(Current, texts(6, 10, " replayed")...)
		<-time.After(10 * idleAfter)
		synctest.Wait()
		if w.shelf.bytes != 0 {
			t.Errorf("%d bytes are on the shelf 5 minutes after the last use", w.shelf.bytes)
		}
	})
}

// A log that hangs for the rooms of one namespace holds up those of the others.
func TestHungLogHoldsUpOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{}, func(t *testing.T, w *world) {
		w.cfg.Log = hungLog{}
		for i := range 100 {
			_, _ = w.join(room.Name(fmt.Sprint("sick", i)), at(5))
		}
		w.settle()
		_, r := w.join("strict:well", at(5))
		began := time.Now()
		for len(r.got) == 0 && time.Since(began) < 5*time.Minute {
			w.settle()
			<-time.After(100 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a healthy room waits %s for its page", took)
		}
	})
}

type hungLog struct{}

func (hungLog) Ends(context.Context, room.Name, room.Position) (bool, error) { return true, nil }

func (hungLog) Read(ctx context.Context, name room.Name, after room.Position, _ int) (room.Page, error) {
	if name != "strict:well" {
		<-ctx.Done()
		return room.Page{}, ctx.Err()
	}
	return room.Page{Messages: messages(after.Seq+1, 10), Last: at(10)}, nil
}

// A message comes while a walk delivers the ones before it: its cursors have not been
// given them, so the ring keeps them for a socket that took a part.
func TestRingKeepsWhatIsBeingDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{}, &pages{})
	c, r := w.join("eph:a", room.Position{})
	c.append(1, 7)
	r.room = 1
	r.during = func() { r.during = nil; c.append(8, 8) }
	r.want(Full, "m 1")
	r.room = 0
	w.turns = append(w.turns, c)
	r.want(Current, texts(2, 8, "")...)
}
