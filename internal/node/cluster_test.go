package node_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roomcast/roomcast/client"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

func TestTwoNodesDeliverEachOthersMessages(t *testing.T) {
	t.Parallel()
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL))
	sockets := []*socket{dial(t, nodes[0], ""), dial(t, nodes[1], ""), dial(t, nodes[1], "")}
	for _, s := range sockets {
		s.subscribe("hello", "")
	}
	var want []string
	for i := range 100 {
		want = append(want, publish(t, nodes[i%2], text("hello", strconv.Itoa(i))))
	}
	for i, s := range sockets {
		got := s.messages(len(want))
		if diff := cmp.Diff(want, ids(got)); diff != "" {
			t.Errorf("socket %d: ids (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(numbered(len(want)), texts(got)); diff != "" {
			t.Errorf("socket %d: texts (-want +got):\n%s", i, diff)
		}
	}
}

// 10,000 messages to rooms that have no socket on the second node: NATS sends it
// nothing but the answers to its own questions.
func TestNoInterestNoTraffic(t *testing.T) {
	t.Parallel()
	const inbound = "roomcast_bus_in_messages_total"
	url := nodetest.StartNATS(t).URL
	first := nodetest.StartLogging(t, nodetest.NewConfig(t, 1, nodetest.OnNATS(url)), slog.DiscardHandler)
	second := nodetest.StartLogging(t, nodetest.NewConfig(t, 2, nodetest.OnNATS(url)), slog.DiscardHandler)
	dial(t, second, "").subscribe("mine", "")
	updated := func() float64 { // the node counts once a second
		before, now := metric(t, second, inbound), 0.0
		nodetest.Eventually(t, patience, "the metric moves", func() bool {
			now = metric(t, second, inbound)
			return now > before
		})
		return now
	}
	before, began := updated(), time.Now()
	var messages []client.Message
	for i := range 10_000 {
		messages = append(messages, client.Message{Room: fmt.Sprint("r", i%100), Body: client.Text("x")})
	}
	storeAll(t, first, slices.Values(messages))
	n := updated() - before
	if own := 200 + 10*time.Since(began).Seconds(); n > own { // heartbeats and canaries, a few a second
		t.Errorf("NATS sent %v messages to a node without interest in the 10,000; its own may be %.0f", n, own)
	}
	if n := metric(t, second, "roomcast_received_total"); n != 0 {
		t.Errorf("the node took in %v messages", n)
	}
}

// storeAll publishes messages through PublishAll; each must be stored.
func storeAll(t testing.TB, n *nodetest.Node, messages iter.Seq[client.Message]) (ids []string) {
	t.Helper()
	err := publisher(t, n).PublishAll(bounded(t), messages, func(_ client.Message, r client.Result) error {
		if r.Err == nil && !r.Stored {
			return errors.New("it was not stored")
		}
		ids = append(ids, r.ID)
		return r.Err
	})
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return ids
}

// While NATS is paused nothing is stored, so nobody may get anything: there is no
// shortcut, not even on the publishing node. Then all follows in order.
func TestPausedNATS(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartChildNATS(t)
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nats.URL))
	sockets := []*socket{dial(t, nodes[0], ""), dial(t, nodes[1], "")}
	for _, s := range sockets {
		s.subscribe("hello", "")
	}
	publish(t, nodes[0], text("hello", "before"))
	for _, s := range sockets {
		s.messages(1)
	}

	nats.Pause()
	stream, err := publisher(t, nodes[0]).Stream(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	const count = 50
	for i := range count {
		if err := stream.Send(client.Message{Room: "hello", Body: client.Text(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	checkUnknown(t, nodes[0]) // takes a second
	for i, s := range sockets {
		if got := s.quiet(); len(got) != 0 {
			t.Errorf("socket %d got %v while the log was away", i, texts(got))
		}
	}

	nats.Resume()
	var stored []string
	for range count {
		r, err := stream.Recv()
		if err != nil || r.Err != nil || !r.Stored {
			t.Fatalf("result %+v, %v", r, err)
		}
		stored = append(stored, r.ID)
	}
	for i, s := range sockets {
		got := s.messages(count)
		if diff := cmp.Diff(numbered(count), texts(got)); diff != "" {
			t.Errorf("socket %d: texts (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(stored, ids(got)); diff != "" {
			t.Errorf("socket %d: ids (-want +got):\n%s", i, diff)
		}
	}
}

// checkUnknown publishes with a deadline of a second, in a room of its own: whether
// it will be stored is not known then.
func checkUnknown(t testing.TB, n *nodetest.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := roomcastv1.NewPublishServiceClient(n.Dial(t)).Publish(ctx, text("other", "x"))
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("publish with NATS paused: %v, want DEADLINE_EXCEEDED", err)
	}
}

// One in 50 of the messages that NATS sends to the second node is lost on the way.
// Its sockets miss nothing, and the counters say how many were read from the log.
func TestHolesAreFilled(t *testing.T) {
	t.Parallel()
	const count = 1001 // the last one shows whether the 1,000th was lost
	nats := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, nats.URL, "rc.live.ab.", 50) // the room's part: no canary is lost
	publishing := nodetest.Start(t, 1, nodetest.OnNATS(nats.URL))[0]
	losing := nodetest.Start(t, 1, nodetest.OnNATS(proxy.URL))[0]
	s := dial(t, losing, "")
	s.subscribe("hello", "")
	var messages []client.Message
	for _, body := range numbered(count) {
		messages = append(messages, client.Message{Room: "hello", Body: client.Text(body)})
	}
	stored := storeAll(t, publishing, slices.Values(messages))
	if diff := cmp.Diff(stored, ids(s.messages(count))); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	lost, filled := float64(proxy.Dropped.Load()), metric(t, losing, "roomcast_filled_messages_total")
	// On a slow machine the audit may find the room behind, and read what is under way.
	if audited := metric(t, losing, "roomcast_audit_repairs_total") > 0; filled < lost || !audited && (lost != 20 || filled != lost) {
		t.Errorf("%v messages were lost, %v filled; want 20 and as many", lost, filled)
	}
	if gaps := metric(t, losing, `roomcast_gaps_total{reason="TRUNCATED"}`); gaps != 0 {
		t.Errorf("%v gaps were told", gaps)
	}
}
