package node_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/roomcast/roomcast/client"
	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// NATS is stopped and started again while PublishAll publishes to three rooms. The
// log, read with nats.go alone, has every message once, each room's in order, and the
// sockets of both nodes get them so.
func TestPublishAcrossRestartOfNATS(t *testing.T) {
	t.Parallel()
	const count, rooms, restartAt = 1500, 3, 400
	nats := nodetest.StartNATS(t)
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nats.URL))
	sockets := []*socket{dial(t, nodes[0], ""), dial(t, nodes[1], "")}
	want := make(map[string][]string)
	var messages []client.Message
	for i := range count {
		name, body := fmt.Sprint("room ", i%rooms), fmt.Sprint(i)
		want[name] = append(want[name], body)
		messages = append(messages, client.Message{Room: name, Body: client.Text(body)})
	}
	for _, s := range sockets {
		for name := range want {
			s.subscribe(name, "")
		}
	}
	answered := 0
	err := publisher(t, nodes[0]).PublishAll(bounded(t), slices.Values(messages), func(m client.Message, r client.Result) error {
		if r.Err != nil {
			t.Errorf("message %d: %v", answered, r.Err)
		}
		if answered++; answered == restartAt {
			nats.Stop()
			nats.Start()
		}
		return nil
	})
	if err != nil || answered != count {
		t.Fatalf("%d answers, %v", answered, err)
	}
	logged := make(map[string][]string)
	for _, raw := range nodetest.Log(t, nats.Connect(t), "RC_default") {
		var record busv1.Record
		if err := proto.Unmarshal(raw.Data, &record); err != nil {
			t.Fatal(err)
		}
		logged[record.GetRoom()] = append(logged[record.GetRoom()], record.GetText())
	}
	if diff := cmp.Diff(want, logged); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	for i, s := range sockets {
		got := make(map[string][]string)
		for _, m := range s.messages(count) {
			got[m.Room] = append(got[m.Room], m.Text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("socket %d (-want +got):\n%s", i, diff)
		}
	}
}
