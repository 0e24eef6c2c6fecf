package bus

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/room"
)

// After the connection was away rooms are proved few at a time, and a message of one
// that waits for its turn makes it its turn: it is not delivered before.
func TestRoomsInDoubtTakeTurns(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := bareShard(ctx)
	defer s.bus.wg.Wait()
	defer cancel()
	stream := &logStream{name: "RC_default", epoch: "e"}
	head := room.Position{Epoch: "e", Seq: 3, Check: 7}
	told := &teller{}
	for i := range 100 {
		subject := fmt.Sprint("room ", i)
		s.rooms[subject] = &liveRoom{subject: subject, sink: told, log: roomLog{stream: stream}, state: ready, head: head}
	}
	beingRead := func() (rooms []*liveRoom) {
		for _, lr := range s.rooms {
			if lr.state == filling {
				rooms = append(rooms, lr)
			}
		}
		return rooms
	}
	s.resyncAll()
	turns := beingRead()
	if len(turns) != shardTurns {
		t.Fatalf("%d rooms are read at a time, want %d", len(turns), shardTurns)
	}

	waits := s.doubt[0]
	s.next(waits, liveMsg{msg: &room.Message{Position: room.Position{Epoch: "e", Seq: 5, Check: 9}}, last: 3})
	if waits.state != filling || len(told.told) > 0 {
		t.Errorf("a room in doubt was told %v before it was read", told.told)
	}
	s.filled(waits, filler{from: head, upTo: 3})
	if diff := cmp.Diff([]string{"message 5"}, told.told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if n := len(beingRead()); n != shardTurns {
		t.Errorf("%d rooms are read after a turn out of turn, want %d", n, shardTurns)
	}

	for done := range 99 { // half of them are left while they are read
		lr := beingRead()[0]
		if done%2 == 0 {
			s.remove(lr)
		} else {
			s.filled(lr, filler{from: head, upTo: 3})
		}
	}
	if left := beingRead(); len(left) > 0 || s.turns != 0 || s.doubt != nil {
		t.Errorf("%d rooms are read, %d turns are counted, %d rooms in doubt at the end", len(left), s.turns, len(s.doubt))
	}
}
