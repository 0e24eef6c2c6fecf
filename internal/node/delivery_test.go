package node_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// Every kind of payload from gRPC to a socket, live and replayed, in a stored and in
// an ephemeral room.
func TestPayloadKinds(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, namespace("eph", func(p *room.Policy) { p.History.Size = 0 }))[0]
	object, err := structpb.NewValue(map[string]any{"state": "paid", "n": 1})
	if err != nil {
		t.Fatal(err)
	}
	const raw = `{"a": 1.0,  "big":12345678901234567890, "s":"<é\u2028>"}`
	tests := map[string]struct {
		req  *roomcastv1.PublishRequest
		want message
	}{
		"json": {
			&roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Json{Json: object}},
			message{JSON: []byte(`{"n":1,"state":"paid"}`)},
		},
		"null": {
			&roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Json{Json: structpb.NewNullValue()}},
			message{JSON: []byte(`null`)},
		},
		"raw_json is not changed": {
			&roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_RawJson{RawJson: []byte(raw)}},
			message{JSON: []byte(raw)},
		},
		"text": {
			&roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Text{Text: "a\n\"b\" 🙂\x00"}},
			message{Text: "a\n\"b\" 🙂\x00"},
		},
		"empty text": {
			&roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Text{}},
			message{},
		},
		"data": {
			&roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Data{Data: []byte{0, 0xff, '"'}}},
			message{Data: []byte{0, 0xff, '"'}},
		},
		"event": {
			&roomcastv1.PublishRequest{Event: "état", Payload: &roomcastv1.PublishRequest_Text{Text: "x"}},
			message{Event: "état", Text: "x"},
		},
	}
	for name, test := range tests {
		for _, kind := range []string{"", "eph:"} {
			t.Run(kind+name, func(t *testing.T) {
				t.Parallel()
				roomName := kind + "kinds " + name
				s := dial(t, n, "")
				start := s.subscribe(roomName, "")
				req := &roomcastv1.PublishRequest{Room: roomName, Event: test.req.Event, Payload: test.req.Payload}
				before := time.Now().Add(-time.Second)
				want := test.want
				want.Room, want.ID = roomName, publish(t, n, req)
				got := s.messages(1)[0]
				checkMessage(t, want, got)
				if got.Time.Before(before) || got.Time.After(time.Now().Add(time.Second)) {
					t.Errorf("its time is %s", got.Time)
				}
				if kind != "" {
					return
				}
				late := dial(t, n, "")
				late.subscribe(roomName, start)
				want.Replayed = true
				checkMessage(t, want, late.messages(1)[0])
			})
		}
	}
}

func checkMessage(t testing.TB, want, got message) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(message{}, "Time")); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// The excluded user's sockets get neither the message nor a gap, live and replayed;
// all others do.
func TestExcludeUser(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	ann, bob := dial(t, n, token(t, "ann")), dial(t, n, token(t, "bob"))
	start := ann.subscribe("hello", "")
	bob.subscribe("hello", "")
	req := text("hello", "not for ann")
	req.ExcludeUser = "ann"
	publish(t, n, req)
	publish(t, n, text("hello", "for all"))
	annAgain, bobAgain := dial(t, n, token(t, "ann")), dial(t, n, token(t, "bob"))
	annAgain.subscribe("hello", start)
	bobAgain.subscribe("hello", start)
	tests := map[string]struct {
		socket *socket
		want   []string
	}{
		"live, excluded":     {ann, []string{"for all"}},
		"live, others":       {bob, []string{"not for ann", "for all"}},
		"replayed, excluded": {annAgain, []string{"for all"}},
		"replayed, others":   {bobAgain, []string{"not for ann", "for all"}},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test.want, texts(test.socket.messages(len(test.want)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if more := test.socket.quiet(); len(more) != 0 {
			t.Errorf("%s: more messages: %v", name, texts(more))
		}
	}
}

// A message whose ttl has passed is not replayed, from the ring or from the log, and
// that is no gap.
func TestExpiredIsNotReplayed(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	n := nodetest.Start(t, 1)[0]
	live := dial(t, n, "")
	start := live.subscribe("hello", "")
	short := text("hello", "short")
	short.Ttl = durationpb.New(ttl)
	began := time.Now()
	publish(t, n, short)
	published := time.Now() // the node's clock for it began before
	publish(t, n, text("hello", "long"))
	// It comes first, unless the node has stood still for its ttl.
	if got := live.messages(1)[0].Text; got == "short" {
		live.messages(1)
	} else if time.Since(began) < ttl {
		t.Errorf("live: got %q, want the short-lived one first", got)
	}
	nodetest.Eventually(t, patience, "the ttl has passed", func() bool { return time.Since(published) > ttl+10*time.Millisecond })
	fromRing := dial(t, n, "")
	fromRing.subscribe("hello", start)
	if diff := cmp.Diff([]string{"long"}, texts(fromRing.messages(1))); diff != "" {
		t.Errorf("from the ring (-want +got):\n%s", diff)
	}
	for _, s := range []*socket{live, fromRing} {
		_ = s.conn.Close() // the room has no socket any more, so no ring
	}
	nodetest.Eventually(t, patience, "the room is left", func() bool { return metric(t, n, "roomcast_rooms") == 0 })
	fromLog := dial(t, n, "")
	fromLog.subscribe("hello", start)
	if diff := cmp.Diff([]string{"long"}, texts(fromLog.messages(1))); diff != "" {
		t.Errorf("from the log (-want +got):\n%s", diff)
	}
}
