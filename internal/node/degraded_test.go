package node_test

import (
	"net/http"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// NATS goes away and comes back: sockets stay open and are told of both, the node is
// not ready meanwhile, and messages follow.
func TestSocketsAreToldOfTheBus(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	n := nodetest.Start(t, 1, nodetest.OnNATS(nats.URL))[0]
	s := dial(t, n, "")
	s.subscribe("a", "")
	nats.Stop()
	if f := s.any(); f.Degraded == nil || f.Degraded.Reason != "BUS_UNAVAILABLE" {
		t.Fatalf("got %+v, want degraded", f)
	}
	nodetest.Eventually(t, patience, "/readyz says so meanwhile", func() bool {
		status, _ := get(t, "http://"+n.Admin+"/readyz", "")
		return status == http.StatusServiceUnavailable
	})
	if f := dial(t, n, "").any(); f.Degraded == nil {
		t.Errorf("a new socket is told %+v, want degraded", f)
	}
	nats.Start()
	if f := s.any(); f.Restored == nil {
		t.Fatalf("got %+v, want restored", f)
	}
	id := publish(t, n, text("a", "it goes on"))
	if got := s.messages(1); got[0].ID != id {
		t.Errorf("got %+v, want %s", got, id)
	}
}

// Nodes that are configured differently say so.
func TestNodesThatDisagreeAreNotReady(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	first := nodetest.StartOne(t, nodetest.NewConfig(t, 1, nodetest.OnNATS(nats.URL)))
	nodetest.StartOne(t, nodetest.NewConfig(t, 2, nodetest.OnNATS(nats.URL),
		namespace("eph", func(p *room.Policy) { p.History.Size = 0 })))
	const want = "node \"n2\" has another configuration: it has namespace \"eph\"\n"
	nodetest.Eventually(t, patience, "the first node says why", func() bool {
		status, body := get(t, "http://"+first.Admin+"/readyz", "")
		return status == http.StatusServiceUnavailable && body == want
	})
}
