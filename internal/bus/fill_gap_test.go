package bus

import (
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
			b := &Bus{log: slog.New(slog.DiscardHandler), cfg: Config{Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)}}
			s := newShard(b)
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
