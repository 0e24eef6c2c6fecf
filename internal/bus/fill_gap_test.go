package bus

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// teller writes down what a room is told.
type teller struct{ told []string }

func (r *teller) Opened(room.Position) {}
func (r *teller) Stands(room.Position) {}
func (r *teller) Append(m *room.Message) {
	r.told = append(r.told, fmt.Sprint("message ", m.Position.Seq))
}

func (r *teller) Break(reason room.GapReason, head room.Position) {
	r.told = append(r.told, fmt.Sprintf("%s to %d", reason, head.Seq))
}
func (r *teller) Purged(room.Position) {}

// bareShard is a shard of a bus without NATS: what it reads never comes.
func bareShard(ctx context.Context) *shard {
	return newShard(&Bus{ctx: ctx, log: slog.New(slog.DiscardHandler), cfg: Config{Metrics: metrics.New()}})
}

// A hole whose messages have all left the log hides just them: a socket that has got
// further elsewhere is not to be told.
func TestGapOfAHoleThatIsGone(t *testing.T) {
	t.Parallel()
	message := func(seq uint64) *room.Message {
		return &room.Message{Room: "a", Position: room.Position{Epoch: "e", Seq: seq, Check: 7}}
	}
	tests := map[string]struct {
		hole filler
		want []string
	}{
		"all gone":       {filler{upTo: 173}, []string{"TRUNCATED to 173", "message 175"}},
		"some are there": {filler{upTo: 173, msgs: []*room.Message{message(172), message(173)}}, []string{"TRUNCATED to 171", "message 172", "message 173", "message 175"}},
		"no hole":        {filler{upTo: 170}, []string{"TRUNCATED to 170"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := &teller{}
			s := bareShard(t.Context())
			lr := &liveRoom{subject: "a", sink: told, head: message(170).Position, state: filling}
			s.rooms["a"] = lr
			if tt.hole.upTo > 170 {
				lr.buf = []liveMsg{{msg: message(175), last: 173}}
			}
			tt.hole.from, tt.hole.gap = lr.head, room.Truncated
			s.filled(lr, tt.hole)
			if diff := cmp.Diff(tt.want, told.told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// What follows a gap may be longer than a page, too: it is delivered page by page.
func TestGapAtTheBeginningOfALongHole(t *testing.T) {
	t.Parallel()
	message := func(seq uint64) *room.Message {
		return &room.Message{Room: "a", Position: room.Position{Epoch: "e", Seq: seq, Check: 7}}
	}
	told := &teller{}
	s := bareShard(t.Context())
	lr := &liveRoom{subject: "a", sink: told, head: message(3).Position, state: filling}
	s.rooms["a"] = lr
	s.deliverPart(lr, filler{from: lr.head, gap: room.Truncated, upTo: 9, msgs: []*room.Message{message(6), message(7)}})
	s.deliverPart(lr, filler{from: message(7).Position, upTo: 9, msgs: []*room.Message{message(8)}})
	s.filled(lr, filler{from: message(8).Position, upTo: 9, msgs: []*room.Message{message(9)}})
	if diff := cmp.Diff([]string{"TRUNCATED to 5", "message 6", "message 7", "message 8", "message 9"}, told.told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// A log was replaced, and the first message of the new one comes before the command that
// tells the rooms: it waits, and the room's place is looked at.
func TestMessageOfAnotherLog(t *testing.T) {
	t.Parallel()
	told := &teller{}
	ctx, cancel := context.WithCancel(t.Context())
	s := bareShard(ctx)
	stream := &logStream{name: "RC_default", epoch: "new"}
	lr := &liveRoom{
		subject: "a", sink: told, log: roomLog{name: "a", stream: stream}, state: ready,
		head: room.Position{Epoch: "old", Seq: 3, Check: 7},
	}
	s.rooms["a"] = lr
	s.next(lr, liveMsg{msg: &room.Message{Room: "a", Position: room.Position{Epoch: "new", Seq: 5, Check: 9}}, last: 3})
	cancel()
	s.bus.wg.Wait()
	s.resetStream(stream, logInfo{epoch: "new", first: 1, last: 5})
	if diff := cmp.Diff([]string{"RESET to 5"}, told.told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if len(lr.buf) != 1 {
		t.Errorf("%d messages wait, want 1", len(lr.buf))
	}
}

// Of two answers about a log that is replaced the older may be looked at last. It does not
// lead back.
func TestOlderAnswerAboutALog(t *testing.T) {
	t.Parallel()
	s := bareShard(t.Context())
	s.bus.shards = []*shard{s}
	stream := &logStream{name: "RC_default", epoch: "old"}
	if !s.bus.noteEpoch(stream, logInfo{epoch: "new", last: 5}, "old") || len(s.cmds) != 1 {
		t.Errorf("the rooms are told %d times of another log, want once", len(s.cmds))
	}
	if s.bus.noteEpoch(stream, logInfo{epoch: "old", last: 9}, "old") || len(s.cmds) != 1 || stream.knownEpoch() != "new" {
		t.Errorf("after an older answer the epoch is %q, the rooms were told %d times; want new, once", stream.knownEpoch(), len(s.cmds))
	}
	if !s.bus.noteEpoch(stream, logInfo{epoch: "newer", last: 1}, "new") || len(s.cmds) != 2 {
		t.Errorf("the rooms were told %d times of another log, want twice", len(s.cmds))
	}
}

// Messages that wait behind a hole are bounded in number and bytes: the log has them.
func TestHeldBehindAHole(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"many": 10, "large": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bareShard(t.Context())
			lr := &liveRoom{subject: "a", state: filling}
			body := make([]byte, size)
			for seq := range uint64(2*maxBuffer + 10) {
				s.hold(lr, liveMsg{msg: &room.Message{Position: room.Position{Epoch: "e", Seq: seq}, Payload: room.Payload{Bytes: body}}})
				if len(lr.buf) > maxBuffer || len(lr.buf)*size > maxHeld+size {
					t.Fatalf("%d messages of %d bytes wait", len(lr.buf), size)
				}
			}
			newest := lr.buf[len(lr.buf)-1].msg.Position.Seq
			if want := uint64(2*maxBuffer + 9); !lr.dirty || newest != want {
				t.Errorf("dirty: %t, the newest that waits is %d; want %d", lr.dirty, newest, want)
			}
		})
	}
}
