package node_test

import (
	"log/slog"
	"net/http"
	"testing"
	"time"

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

// Any node is asked to drain any other. What it had goes on elsewhere, and it has left.
func TestDrainNode(t *testing.T) {
	t.Parallel()
	nodes := together(t, nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL)))
	cluster := roomcastv1.NewClusterServiceClient(nodes[0].Dial(t))
	s := dial(t, nodes[1], "")
	resp, err := cluster.DrainNode(bounded(t), &roomcastv1.DrainNodeRequest{Node: nodes[1].Node, Over: durationpb.New(time.Hour)})
	if err != nil || resp.GetConnections() != 1 {
		t.Fatalf("got %d, %v", resp.GetConnections(), err)
	}
	nodetest.Eventually(t, patience, "it is said to drain", func() bool {
		list := listNodes(t, nodes[0])
		return len(list) == 2 && (list[0].GetDraining() || list[1].GetDraining())
	})
	if _, err := cluster.DrainNode(bounded(t), &roomcastv1.DrainNodeRequest{Node: nodes[1].Node}); err != nil { // hurries
		t.Fatal(err)
	}
	if f := s.next(); f.Reconnect == nil {
		t.Errorf("got %+v, want to be told to move", f)
	}
	<-nodes[1].Done()
	nodetest.Eventually(t, patience, "it has left", func() bool { return len(listNodes(t, nodes[0])) == 1 })
	_, err = cluster.DrainNode(bounded(t), &roomcastv1.DrainNodeRequest{Node: nodes[1].Node})
	if status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
}
