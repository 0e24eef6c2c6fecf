package node_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// hop is a line of the debug trace.
type hop struct {
	Hop int    `json:"hop"`
	ID  string `json:"id"`
	Msg string `json:"msg"`
}

// trace keeps a node's log, one JSON object a line.
type trace struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *trace) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// of returns the hops of one message, in the order logged.
func (l *trace) of(t testing.TB, id string) (hops []hop) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.buf.Bytes()) {
		var h hop
		if err := json.Unmarshal(line, &h); err != nil {
			t.Fatalf("log line %s: %v", line, err)
		}
		if h.Hop != 0 && h.ID == id {
			hops = append(hops, h)
		}
	}
	return hops
}

// TestTraceOfFiveHops finds the way of one message in the debug log. Hops 1 and 2
// know its id once the log has acknowledged it, which may be after the others: the
// way in and the way out are each in order.
func TestTraceOfFiveHops(t *testing.T) {
	t.Parallel()
	logs := &trace{}
	n := nodetest.StartLogging(t, nodetest.NewConfig(t, 1), slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := dial(t, n, "")
	s.subscribe("hello", "")
	id := publish(t, n, text("hello", "x"))
	s.messages(1)
	var hops []hop
	nodetest.Eventually(t, patience, "all hops are logged", func() bool {
		hops = logs.of(t, id)
		return len(hops) >= 5
	})
	var in, out []string
	for _, h := range hops {
		if h.Hop <= 2 {
			in = append(in, h.Msg)
		} else {
			out = append(out, h.Msg)
		}
	}
	if want := []string{"store", "publish"}; !slices.Equal(in, want) { // hop 1 answers after hop 2
		t.Errorf("the way in is %v, want %v", in, want)
	}
	if want := []string{"receive", "append", "flush"}; !slices.Equal(out, want) {
		t.Errorf("the way out is %v, want %v", out, want)
	}
	slices.SortFunc(hops, func(a, b hop) int { return a.Hop - b.Hop })
	for i, h := range hops {
		if h.Hop != i+1 {
			t.Errorf("hops %+v, want 1 to 5 once each", hops)
			break
		}
	}
}
