package node_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// A socket publishes where its room's policy allows it, and keeps its order; the
// other node's sockets get it as they get everything.
func TestSocketPublishes(t *testing.T) {
	t.Parallel()
	const count = 200
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL),
		namespace("chat", func(p *room.Policy) { p.ClientPublish = true }))
	ann, bob := dial(t, nodes[0], token(t, "ann")), dial(t, nodes[1], token(t, "bob"))
	bob.subscribe("chat:1", "")
	answers := make(map[uint32]int)
	for i := range count {
		answers[ann.send(fmt.Sprintf(`{"publish":{"room":"chat:1","text":"%d","messageId":"m%d"}}`, i, i))] = i
	}
	stored := make([]string, count)
	for range count {
		f := ann.next()
		i, ok := answers[f.ID]
		if !ok || f.Published == nil || !f.Published.Stored || f.Published.Duplicate {
			t.Fatalf("answer %+v, want published and stored", f)
		}
		stored[i] = f.Published.ID
	}
	got := bob.messages(count)
	if diff := cmp.Diff(numbered(count), texts(got)); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(stored, ids(got)); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}

	f := ann.answer(ann.send(`{"publish":{"room":"chat:1","text":"again","messageId":"m7"}}`))
	if f.Published == nil || !f.Published.Duplicate || f.Published.ID != stored[7] {
		t.Errorf("the same message id: %+v, want a duplicate of %s", f.Published, stored[7])
	}
	if more := bob.quiet(); len(more) != 0 {
		t.Errorf("more messages: %v", texts(more))
	}
}

func TestSocketMayNotPublish(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, namespace("chat", func(p *room.Policy) { p.ClientPublish, p.MaxPayload = true, 10 }))[0]
	s := dial(t, n, token(t, "ann"))
	tests := map[string]struct {
		request string
		want    errorFrame
	}{
		"policy":    {`{"publish":{"room":"hello","text":"x"}}`, errorFrame{"PERMISSION_DENIED", "CLIENT_PUBLISH_DISABLED", ""}},
		"room":      {`{"publish":{"room":"chat:*","text":"x"}}`, errorFrame{"INVALID_ARGUMENT", "INVALID_ROOM", "publish.room"}},
		"too large": {`{"publish":{"room":"chat:1","text":"01234567890"}}`, errorFrame{"INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE", "publish.payload"}},
		"ttl":       {`{"publish":{"room":"chat:1","text":"x","ttl":"0.1s"}}`, errorFrame{"INVALID_ARGUMENT", "INVALID_TTL", "publish.ttl"}},
	}
	for name, test := range tests {
		f := s.answer(s.send(test.request))
		if f.Error == nil {
			t.Errorf("%s: answered %+v, want an error", name, f)
			continue
		}
		if diff := cmp.Diff(test.want, *f.Error); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
