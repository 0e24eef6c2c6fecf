package node_test

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// A drain that is asked for takes its time, unless another one is quicker; then the
// node has ended as after a signal.
func TestDrainIsAskedFor(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	sockets := []*socket{dial(t, n, ""), dial(t, n, ""), dial(t, n, "")}
	if got := n.Drain(time.Hour); got != len(sockets) {
		t.Errorf("%d sockets are to move, want %d", got, len(sockets))
	}
	nodetest.Eventually(t, patience, "it is not ready", func() bool {
		status, body := get(t, "http://"+n.Admin+"/readyz", "")
		return status == http.StatusServiceUnavailable && body == "draining\n"
	})
	if status, body := get(t, "http://"+n.HTTP+"/health", ""); status != http.StatusServiceUnavailable || body != "draining\n" {
		t.Errorf("/health says %d %q", status, body)
	}
	if got := n.Drain(0); got != len(sockets) { // the drain window: 1 s
		t.Errorf("%d sockets are still to move, want %d", got, len(sockets))
	}
	for _, s := range sockets {
		if f := s.next(); f.Reconnect == nil || f.Reconnect.WithinMs == 0 || f.Reconnect.WithinMs > 1000 {
			t.Errorf("got %+v, want to be told to move", f)
		}
	}
	<-n.Done()
	if got := n.Drain(0); got != 0 {
		t.Errorf("%d sockets are to move after the end", got)
	}
	if err := n.Stop(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestDrainBeforeTheStart(t *testing.T) {
	t.Parallel()
	n, err := node.New(nodetest.NewConfig(t, 1), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Drain(0); got != 0 {
		t.Errorf("%d sockets are to move", got)
	}
}
