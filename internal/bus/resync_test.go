package bus

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

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

// The connection breaks, and all that a room got meanwhile has left the log with its head
// when the next message comes, which therefore tells of none before it.
func TestDoubtBeginsWithTheDisconnect(t *testing.T) {
	t.Parallel()
	s, lr, told := roomAt3(t)
	s.bus.shards = []*shard{s}
	s.bus.up.Store(true)
	s.bus.onDisconnect("live", nil)
	for range len(s.cmds) {
		(<-s.cmds)(s)
	}
	s.next(lr, liveMsg{msg: &room.Message{Position: room.Position{Epoch: "e", Seq: 9, Check: 9}}})
	if lr.state != filling || len(told.told) > 0 {
		t.Errorf("the room was told %v before it was read", told.told)
	}
}

// The audit has looked at the log, then the connection breaks and comes back: the room is
// to be read to the end that the log has now.
func TestAuditFromBeforeTheDoubt(t *testing.T) {
	t.Parallel()
	for name, doubted := range map[string]bool{"was well": false, "was in doubt": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, lr, _ := roomAt3(t)
			if doubted {
				s.doubtAll()
			}
			found := []suspect{{standing{lr, 3, doubted, s.doubts}, 5}}
			s.doubtAll()
			s.repair(found, "e")
			if lr.state != ready || !lr.doubted {
				t.Errorf("the room is in state %d, in doubt: %t; want that it waits for its turn", lr.state, lr.doubted)
			}
			found[0].doubts = s.doubts
			s.repair(found, "e")
			if lr.state != filling {
				t.Error("what was found since is not filled")
			}
		})
	}
}

// roomAt3 is a room of a shard without NATS.
func roomAt3(t *testing.T) (*shard, *liveRoom, *teller) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, told := bareShard(ctx), &teller{}
	t.Cleanup(func() { cancel(); s.bus.wg.Wait() })
	lr := &liveRoom{
		subject: "a", sink: told, log: roomLog{stream: &logStream{name: "RC_default", epoch: "e"}}, state: ready,
		head: room.Position{Epoch: "e", Seq: 3, Check: 7},
	}
	s.rooms["a"] = lr
	return s, lr, told
}

// A log has a leader again, and it is the one that it had: what was stored in between may
// not have been republished.
func TestElectionIsAudited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stream := &logStream{name: "RC_default", leader: "s1"}
		stream.audit = newAudit(nil, stream)
		stream.elected(nil)
		for look := range 2 { // what was on its way is there the second time
			<-stream.audit.poke
			if !stream.audit.all.Swap(false) {
				t.Errorf("look %d is not at all rooms", look)
			}
		}
	})
}
