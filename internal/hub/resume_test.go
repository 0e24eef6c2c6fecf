package hub

import (
	"testing"

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

// A room without a message stands at the log's end. Who resumes from an earlier moment
// has missed nothing, however long the log shows nothing.
func TestResumeInRoomWithoutMessages(t *testing.T) {
	t.Parallel()
	mark := func(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq} }
	w := newWorld(t, &quietSource{head: mark(10)}, &pages{})
	c, first := w.join("a", room.Position{})
	c.part.room.Stands(mark(20))
	_, second := w.join("a", room.Position{}) // at 20, see join
	c.append(25, 25)
	c.part.room.Stands(mark(30)) // late: there is a message
	for _, r := range []*reader{first, second} {
		r.want(Current, "m 25")
	}
	if c.part.room.head != at(25) {
		t.Errorf("the room stands at %v", c.part.room.head)
	}
	inBubble(t, &pages{list: []room.Page{{}}}, func(t *testing.T, w *world) {
		t.Helper()
		keep, _ := w.join("b", room.Position{})
		keep.part.room.Break(room.Truncated, mark(20))
		_, r := w.join("b", mark(15))
		r.wantRead(Current)
	})
}
