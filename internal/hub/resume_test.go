package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// Messages 11 to 19 left the log unseen: who resumes after 10 must not be attached
// to the ring as if nothing were missing.
func TestResumeAtHeadOfBreak(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	keep, _ := w.join("a", room.Position{})
	keep.part.room.Break(room.Truncated, at(10))
	for _, after := range []room.Position{at(10), {Epoch: "e", Seq: 15}} {
		_, r := w.join("a", after)
		r.want(Waiting)
	}
	keep.append(20, 20)
	for _, after := range []room.Position{at(10), {Epoch: "e", Seq: 15}} {
		_, r := w.join("a", after)
		r.want(Waiting)
	}
	_, r := w.join("a", at(20))
	r.want(Current)
}

// A break, then more than a ring of messages before the socket's turn: the log has
// what followed, and tells the gap.
func TestBreakThenRingTurnsOver(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{Gap: room.Truncated, Messages: messages(20, 33), Last: at(33), More: true}}}
	inBubble(t, log, func(t *testing.T, w *world) {
		c, r := w.join("a", room.Position{})
		c.part.room.Break(room.Truncated, at(10))
		c.append(20, 39)
		r.wantRead(Current, append([]string{"gap TRUNCATED"}, texts(20, 39, "")...)...)
		if log.reads[0] != at(10) {
			t.Errorf("the log was read after %v, want the position before the break", log.reads[0])
		}
	})
}

// Positions of a node that is ahead of this one are valid here: the log proves them,
// and this node's ring begins below them.
func TestPositionAheadOfThisNode(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{}}}, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(18, 18)
		c, ahead := w.join("a", at(30))
		_, watermark := w.join("a", room.Position{Epoch: "e", Seq: 30})
		ahead.wantRead(Current)
		watermark.wantRead(Current)
		for _, seq := range []uint64{25, 30, 31} {
			keep.append(seq, seq)
		}
		ahead.wantRead(Current, "m 31")
		watermark.wantRead(Current, "m 31")
		keep.append(32, 32)
		ahead.wantRead(Current, "m 32")
		if c.resume != nil {
			w.t.Error("it is still held to be ahead")
		}
	})
}

// The last message of a room has left the log, which has gone on: who joins now gets
// where the log is, who resumes from before has missed nothing.
func TestRoomStandsAtTheEnd(t *testing.T) {
	t.Parallel()
	mark := func(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq} }
	inBubble(t, &pages{list: []room.Page{{}}}, func(_ *testing.T, w *world) {
		c, first := w.join("a", room.Position{})
		c.part.room.Stands(mark(20))
		_, second := w.join("a", room.Position{})
		_, third := w.join("a", mark(15))
		third.wantRead(Current)
		if c.part.room.head != mark(20) {
			w.t.Errorf("the room stands at %v", c.part.room.head)
		}
		c.append(25, 25)
		c.part.room.Stands(mark(30)) // its ring has the message still
		_, fourth := w.join("a", mark(24))
		for _, r := range []*reader{first, second, third} {
			r.want(Current, "m 25")
		}
		fourth.wantRead(Current, "m 25 replayed")
		c.append(31, 31)
		for _, r := range []*reader{first, second, third, fourth} {
			r.want(Current, "m 31")
		}
	})
}

// A socket resumes after the last message of a page that goes on with records that
// nobody can read: the page has nothing for it, but leads on.
func TestPageEndsUnreadable(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{
		{Messages: messages(12, 15), Last: room.Position{Epoch: "e", Seq: 20}, More: true},
		{Messages: messages(21, 34), Last: at(34), More: true},
	}}
	inBubble(t, log, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 40) // the ring begins at 33
		_, first := w.join("a", at(11))
		want := append(texts(12, 15, " replayed"), texts(21, 40, " replayed")...)
		first.wantRead(Current, want...)
		_, second := w.join("a", at(15))
		second.wantRead(Current, want[4:]...)
	})
}

// A room without messages opens where its stream is: further than a watermark that a
// client has from before, though nothing has happened in the room.
func TestQuietRoom(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{}}}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &quietSource{head: room.Position{Epoch: "e", Seq: 30}}, log)
		c, r := w.join("a", room.Position{Epoch: "e", Seq: 10})
		r.wantRead(Current)
		c.append(31, 31)
		r.want(Current, "m 31")
	})
}

// A socket that resumed ahead of this node has what follows a gap that this node is
// told of: it is told nothing, and nothing comes again.
func TestBreakBehindWhoIsAhead(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{}}}, func(_ *testing.T, w *world) {
		keep, current := w.join("a", room.Position{})
		_, ahead := w.join("a", at(30))
		ahead.wantRead(Current)
		keep.part.room.Break(room.Truncated, room.Position{Epoch: "e", Seq: 19})
		keep.append(20, 25)
		current.want(Current, append([]string{"gap TRUNCATED"}, texts(20, 25, "")...)...)
		keep.append(26, 31)
		current.want(Current, texts(26, 31, "")...)
		ahead.want(Current, "m 31")
	})
}

// It is not known how far the gap reaches: who is ahead may miss something too.
func TestBreakOfUnknownEnd(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{}}}, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		_, ahead := w.join("a", at(15))
		ahead.wantRead(Current)
		keep.part.room.Break(room.Truncated, at(10))
		ahead.want(Current, "gap TRUNCATED")
		keep.append(20, 20)
		ahead.want(Current, "m 20")
	})
}

// A gap that the others were told is not for who comes from a log that has nothing
// left: it gets its own.
func TestEmptiedLogAfterBreak(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{Gap: room.Truncated}}}, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.part.room.Break(room.Truncated, room.Position{Epoch: "e", Seq: 19})
		_, r := w.join("a", at(5))
		r.wantRead(Current, "gap TRUNCATED")
		keep.append(20, 20)
		r.want(Current, "m 20")
	})
}

// A log that fails has not shown that there is nothing: the patience with a replica
// that is behind begins again.
func TestPatienceIsForALogThatAnswers(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{}}}
	inBubble(t, log, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 20)
		_, r := w.join("a", at(10))
		r.wantRead(Waiting)
		for _, list := range [][]room.Page{nil, {{}}, {{Messages: messages(11, 20), Last: at(20)}}} {
			<-time.After(patience - logLag)
			log.mu.Lock()
			log.list = list
			log.mu.Unlock()
		}
		<-time.After(logRetry)
		r.wantRead(Current, texts(11, 20, " replayed")...)
	})
}

// An answer that was long on its way shows the log as it was when it was asked: that
// is not what patience waits for.
func TestPatienceIsNotForASlowAnswer(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{}, {}, {Messages: messages(11, 20), Last: at(20)}}, slow: patience + time.Second}
	inBubble(t, log, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 20)
		_, r := w.join("a", at(10))
		r.wantRead(Waiting)
		<-time.After(3 * (log.slow + logLag))
		r.wantRead(Current, texts(11, 20, " replayed")...)
	})
}

// What a log is held to have lost is what the room had when it began to show nothing:
// the ring may have dropped newer messages since, which the log is to tell; or the room
// has another log.
func TestPatienceDoesNotCoverNews(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		news func(keep *Cursor)
		then room.Page
		want []string
	}{
		"the ring turns over": {
			func(keep *Cursor) { keep.append(21, 40) },
			room.Page{Messages: messages(11, 40), Last: at(40)},
			append(texts(11, 20, " replayed"), texts(21, 40, "")...),
		},
		"another log": {
			func(keep *Cursor) { keep.part.room.Break(room.Reset, room.Position{Epoch: "f", Seq: 3}) },
			room.Page{Gap: room.Reset},
			[]string{"gap RESET"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &pages{list: []room.Page{{}}}
			inBubble(t, log, func(_ *testing.T, w *world) {
				keep, _ := w.join("a", room.Position{})
				keep.append(11, 20)
				_, r := w.join("a", at(10))
				r.wantRead(Waiting)
				<-time.After(patience - logLag/2)
				test.news(keep)
				<-time.After(logLag)
				log.mu.Lock()
				log.list = []room.Page{test.then}
				log.mu.Unlock()
				<-time.After(logLag)
				r.wantRead(Current, test.want...)
			})
		})
	}
}

// An emptied log, then more than a ring of messages before the socket's turn: the log
// has them, and nothing else is missing.
func TestEmptiedLogThenRingTurnsOver(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{
		{Gap: room.Truncated},
		{Gap: room.Truncated, Messages: messages(11, 25), Last: at(25)},
	}}
	inBubble(t, log, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		_, r := w.join("a", at(5))
		w.settle()
		synctest.Wait()
		keep.append(11, 25)
		r.wantRead(Current, append([]string{"gap TRUNCATED"}, texts(11, 25, "")...)...)
	})
}

// A position in the ring or ahead of this node, but no longer in the log: what is
// before it in the ring does not come again.
func TestEmptiedLogBehindWhoResumes(t *testing.T) {
	t.Parallel()
	inBubble(t, &pages{list: []room.Page{{Gap: room.Truncated}}}, func(_ *testing.T, w *world) {
		keep, _ := w.join("a", room.Position{})
		keep.append(11, 16)
		lost := at(14)
		lost.Check++
		_, inside := w.join("a", lost)
		_, ahead := w.join("a", at(18))
		inside.wantRead(Current, "gap TRUNCATED", "m 15 replayed", "m 16 replayed")
		ahead.wantRead(Current, "gap TRUNCATED")
		keep.append(17, 19)
		ahead.want(Current, "m 19")
	})
}
