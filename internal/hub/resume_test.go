package hub

import (
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// Messages 11 to 19 left the log unseen: who resumes after 10 must not be attached
// to the ring as if nothing were missing.
func TestResumeAtHeadOfBreak(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	keeper, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	keeper.room.Break(room.Truncated, at(10))
	for _, after := range []room.Position{at(10), {Epoch: "e", Seq: 15}} {
		c, _ := mustJoin(t, h, "a", after, &reader{})
		wantTake(t, c, InLog)
	}
	keeper.room.Append(message("a", 20))
	for _, after := range []room.Position{at(10), {Epoch: "e", Seq: 15}} {
		c, _ := mustJoin(t, h, "a", after, &reader{})
		wantTake(t, c, InLog)
	}
	c, _ := mustJoin(t, h, "a", at(20), &reader{})
	wantTake(t, c, Current)
}

// A break, then more than a ring of messages before the socket's writer comes round:
// what followed the gap is in the log.
func TestBreakThenRingTurnsOver(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(10)}, nil)
	c, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	c.room.Break(room.Truncated, at(10))
	for seq := uint64(20); seq < 40; seq++ {
		c.room.Append(message("a", seq))
	}
	wantTake(t, c, InLog, "gap TRUNCATED")
	if c.At() != at(10) {
		t.Errorf("stands at %v, want where the break said", c.At())
	}
}

// A page that holds only the position's own record is no progress: the log is
// behind this node and must be asked again after a pause.
func TestPageWithoutNewsIsNoProgress(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(20)}, nil)
	c, _ := mustJoin(t, h, "a", at(10), &reader{})
	wantTake(t, c, InLog)
	if _, progress := c.Refill(nil, room.Page{Last: at(10)}, time.Now()); progress {
		t.Error("asks the log again without a pause")
	}
}

// Positions of a node that is ahead of this one are valid here: the log proves them,
// and this node's ring begins below them.
func TestPositionAheadOfThisNode(t *testing.T) {
	t.Parallel()
	h := newTestHub(t, &quietSource{head: at(5)}, nil)
	keeper, _ := mustJoin(t, h, "a", room.Position{}, &reader{})
	keeper.room.Append(message("a", 18))
	for _, after := range []room.Position{at(30), {Epoch: "e", Seq: 30}} {
		c, _ := mustJoin(t, h, "a", after, &reader{})
		wantTake(t, c, InLog)
		if frames, progress := c.Refill(nil, room.Page{}, time.Now()); len(frames) != 0 || !progress {
			t.Fatalf("after %v: %d frames, progress %v", after, len(frames), progress)
		}
		wantTake(t, c, Current)
	}
	late, _ := mustJoin(t, h, "a", at(30), &reader{})
	wantTake(t, late, InLog)
	late.Refill(nil, room.Page{}, time.Now())
	for _, seq := range []uint64{25, 30, 31} {
		keeper.room.Append(message("a", seq))
	}
	wantTake(t, late, Current, "m 31")
}
