package hub

import (
	"testing"

	"github.com/roomcast/roomcast/internal/room"
)

// A client that makes up positions gets a page for each. A room keeps few of them, and
// what others use: a look goes through all.
func TestPagesOfOneRoomAreBounded(t *testing.T) {
	t.Parallel()
	s := shelf{maxBytes: 32 << 20}
	r, other := &Room{}, &Room{}
	madeUp := func(seq uint64) room.Position { return room.Position{Epoch: "forged", Seq: seq, Check: 1} }
	reset := func(seq uint64) *page { return newPage(madeUp(seq), room.Page{Gap: room.Reset}, room.Position{}) }
	s.put(other, reset(0))
	s.put(r, reset(0))
	for seq := range uint64(20 * maxPages) {
		s.put(r, reset(1+seq))
		if pg, _ := s.find(r, madeUp(0)); pg == nil {
			t.Fatalf("after %d pages the one in use is gone", seq)
		}
	}
	if n := len(s.rooms[r]); n != maxPages {
		t.Errorf("the room has %d pages, want %d", n, maxPages)
	}
	if n := len(s.rooms[other]); n != 1 {
		t.Errorf("another room has %d pages, want 1", n)
	}
	if n := s.recent.Len(); n != maxPages+1 {
		t.Errorf("%d pages are listed, want %d", n, maxPages+1)
	}
}
