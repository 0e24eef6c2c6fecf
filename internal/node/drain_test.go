package node_test

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
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
	for _, url := range []string{"http://" + n.Admin + "/readyz", "http://" + n.HTTP + "/health"} {
		nodetest.Eventually(t, patience, url+" says so", func() bool {
			status, body := get(t, url, "")
			return status == http.StatusServiceUnavailable && body == "draining\n"
		})
	}
	told, ends := make(chan string, len(sockets)), make(chan error, len(sockets))
	for _, s := range sockets {
		go func() {
			for {
				_ = s.conn.SetReadDeadline(time.Now().Add(patience)) // never fails
				_, data, err := s.conn.ReadMessage()
				if err != nil {
					ends <- err
					return
				}
				told <- string(data)
			}
		}()
	}
	select { // one at once, the others in the course of the hour
	case got := <-told:
		if want := `{"reconnect":{"withinMs":1000,"reason":"DRAINING"}}`; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	case err := <-ends:
		t.Errorf("ended with %v, nobody was told to move", err)
	}
	if got := n.Drain(0); got != len(sockets) { // the drain window: 1 s
		t.Errorf("%d sockets are still to move, want %d", got, len(sockets))
	}
	for range sockets {
		if err := <-ends; !websocket.IsCloseError(err, websocket.CloseServiceRestart) {
			t.Errorf("ended with %v, want 1012", err)
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

// Any node is asked to drain any other. What it had goes on elsewhere, and it has left.
func TestDrainNode(t *testing.T) {
	t.Parallel()
	nodes := together(t, nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL)))
	cluster := roomcastv1.NewClusterServiceClient(nodes[0].Dial(t))
	s := dial(t, nodes[1], "")
	drain := func(over *durationpb.Duration) {
		t.Helper()
		nodetest.Eventually(t, patience, "it is asked to drain", func() bool { // it may take longer than who asks waits
			resp, err := cluster.DrainNode(bounded(t), &roomcastv1.DrainNodeRequest{Node: nodes[1].Node, Over: over})
			if err == nil && resp.GetConnections() != 1 {
				t.Fatalf("%d sockets are to move, want 1", resp.GetConnections())
			}
			return err == nil || over == nil && status.Code(err) == codes.NotFound
		})
	}
	drain(durationpb.New(time.Hour))
	nodetest.Eventually(t, patience, "it is said to drain", func() bool {
		list := listNodes(t, nodes[0])
		return len(list) == 2 && (list[0].GetDraining() || list[1].GetDraining())
	})
	if f := s.next(); f.Reconnect == nil {
		t.Errorf("got %+v, want to be told to move", f)
	}
	drain(nil) // hurries
	<-nodes[1].Done()
	nodetest.Eventually(t, patience, "it has left", func() bool { return len(listNodes(t, nodes[0])) == 1 })
	_, err := cluster.DrainNode(bounded(t), &roomcastv1.DrainNodeRequest{Node: nodes[1].Node})
	if status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
}
