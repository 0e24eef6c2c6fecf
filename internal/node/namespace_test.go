package node_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// A namespace is added in a rolling restart of two nodes. While they have two logs for
// its rooms nobody can publish to them; other rooms go on. Then everything that is
// acknowledged reaches every socket: those that waited at the first node, and those that
// come back with a position of the old log, after RESET.
func TestNamespaceAddedInRollingRestart(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	orders := namespace("orders", func(p *room.Policy) {})
	first := nodetest.StartOne(t, nodetest.NewConfig(t, 1, nodetest.OnNATS(nats.URL)))
	second := nodetest.StartOne(t, nodetest.NewConfig(t, 2, nodetest.OnNATS(nats.URL)))
	before := publishAll(t, first, "orders:1", numbered(10))
	old := dial(t, second, "")
	old.subscribe("orders:1", before[4])
	if diff := cmp.Diff(before[5:], ids(old.messages(5))); diff != "" {
		t.Fatalf("before (-want +got):\n%s", diff)
	}

	if err := first.Stop(); err != nil {
		t.Error(err)
	}
	first = nodetest.StartOne(t, nodetest.NewConfig(t, 1, nodetest.OnNATS(nats.URL), orders))
	waiting := dial(t, first, "")
	waiting.subscribe("orders:1", "")
	others := dial(t, first, "")
	others.subscribe("a", "")
	for _, n := range []*nodetest.Node{first, second} {
		nodetest.Eventually(t, patience, "it knows", func() bool {
			_, body := get(t, "http://"+n.Admin+"/readyz", "")
			return strings.Contains(body, `namespace "orders"`)
		})
		checkContested(t, n)
		id := publish(t, n, text("a", "goes on"))
		if got := others.messages(1); got[0].ID != id {
			t.Errorf("in a room of another namespace: %+v, want %s", got, id)
		}
	}
	if got := old.quiet(); len(got) > 0 {
		t.Errorf("at the old node: %+v", got)
	}

	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	second = nodetest.StartOne(t, nodetest.NewConfig(t, 2, nodetest.OnNATS(nats.URL), orders))
	nodetest.Eventually(t, patience, "the nodes agree", func() bool {
		status, _ := get(t, "http://"+first.Admin+"/readyz", "")
		return status == http.StatusOK
	})
	back := dial(t, second, "")
	back.subscribe("orders:1", before[9])
	if f := back.next(); f.Gap == nil || f.Gap.Reason != "RESET" {
		t.Errorf("with a position of the old log: %+v, want RESET", f)
	}
	after := slices.Concat(publishAll(t, first, "orders:1", numbered(10)), publishAll(t, second, "orders:1", numbered(10)))
	for name, s := range map[string]*socket{"who waited": waiting, "who came back": back} {
		if diff := cmp.Diff(after, ids(s.messages(20))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// checkContested publishes to a room of the namespace that only one node has: one by one
// and in a batch.
func checkContested(t *testing.T, n *nodetest.Node) {
	t.Helper()
	service := roomcastv1.NewPublishServiceClient(n.Dial(t))
	req := text("orders:1", "refused")
	if _, err := service.Publish(bounded(t), req); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "do not agree") {
		t.Errorf("publish: %v, want UNAVAILABLE", err)
	}
	batch, err := service.PublishBatch(bounded(t), &roomcastv1.PublishBatchRequest{Messages: []*roomcastv1.PublishRequest{req}})
	if err != nil {
		t.Fatal(err)
	}
	if got := batch.GetResults()[0].GetError().GetCode(); codes.Code(got) != codes.Unavailable {
		t.Errorf("publish in a batch: %v, want UNAVAILABLE", batch.GetResults())
	}
}
