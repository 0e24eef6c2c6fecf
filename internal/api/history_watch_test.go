package api

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
)

// watch is a WatchMessages call that has begun.
type watch struct {
	roomcastv1.HistoryService_WatchMessagesClient
	t        *testing.T
	position string
	room     *hub.Room // where the test makes things happen
}

func openWatch(ctx context.Context, t *testing.T, ts *testServer, req *roomcastv1.WatchMessagesRequest) *watch {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	stream, err := roomcastv1.NewHistoryServiceClient(ts.conn).WatchMessages(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil || len(header.Get(metaPosition)) != 1 {
		t.Fatalf("header %v, %v; want a position", header, err)
	}
	return &watch{stream, t, header.Get(metaPosition)[0], ts.rooms.heard()[0]}
}

// next is the next event in short: "3 json:…" or "gap TRUNCATED after … at …".
func (w *watch) next() string {
	w.t.Helper()
	event, err := w.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	if gap := event.GetGap(); gap != nil {
		return fmt.Sprintf("gap %s after %s at %s", gap.GetReason(), gap.GetAfter(), gap.GetPosition())
	}
	m := event.GetMessage()
	kind, body := "json", m.GetJson().String()
	if m.GetRawJson() != nil {
		kind, body = "raw", string(m.GetRawJson())
	}
	if m.GetReplayed() {
		kind = "replayed " + kind
	}
	return fmt.Sprintf("%s %s:%s", m.GetId(), kind, body)
}

func (w *watch) want(want string) {
	w.t.Helper()
	if got := w.next(); got != want {
		w.t.Errorf("got %q, want %q", got, want)
	}
}

// numbered is message seq of a room.
func numbered(name room.Name, seq uint64) *room.Message {
	p := room.Position{Epoch: "e", Seq: seq, Check: 7}
	return &room.Message{
		Room: name, ID: p.String(), Position: p, Time: time.Unix(1, 0),
		Payload: room.Payload{Kind: room.JSON, Bytes: []byte(`"x"`)},
	}
}

func TestWatchMessages(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	people := openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: "a"})
	raw := openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: "a", Raw: true})
	excluded := numbered("a", 102)
	excluded.ExcludeUser = "ann"
	expired := numbered("a", 103)
	expired.Expires = time.Now().Add(-time.Second)
	for _, m := range []*room.Message{numbered("a", 101), excluded, expired, numbered("a", 104)} {
		people.room.Append(m)
	}
	bodies := map[*watch]string{people: `json:string_value:"x"`, raw: `raw:"x"`}
	for w, body := range bodies {
		if w.position != head().String() {
			t.Errorf("begins at %q, want %q", w.position, head())
		}
		for _, seq := range []int{101, 102, 104} { // exclude_user is for sockets
			w.want(fmt.Sprintf("e.%d.7 %s", seq, body))
		}
	}
	people.room.Purged(room.Position{Epoch: "e", Seq: 105, Check: 7})
	people.room.Append(numbered("a", 106))
	for w, body := range bodies {
		w.want("gap TRUNCATED after e.104.7 at e.105.7")
		w.want("e.106.7 " + body)
	}
}

// A watch that is ended leaves its room.
func TestWatchLeaves(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	openWatch(ctx, t, ts, &roomcastv1.WatchMessagesRequest{Room: "a"})
	cancel()
	select {
	case <-ts.rooms.left:
	case <-time.After(patience):
		t.Error("the room is still heard")
	}
}

// A watch resumes as a socket does: from the log, then the ring, then live.
func TestWatchAfter(t *testing.T) {
	t.Parallel()
	ts := start(t, func(_ *Config, r *recorder) {
		for seq := uint64(1); seq <= 100; seq++ {
			r.pages["a"] = append(r.pages["a"], numbered("a", seq))
		}
	})
	w := openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: "a", After: "e.10.7", Raw: true})
	if w.position != "e.10.7" {
		t.Errorf("begins at %q, want e.10.7", w.position)
	}
	for seq := 11; seq <= 100; seq++ {
		w.want(fmt.Sprintf(`e.%d.7 replayed raw:"x"`, seq))
	}
	w.room.Append(numbered("a", 101))
	w.want(`e.101.7 raw:"x"`)
	w = openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: "live:1", After: "e.10.7"})
	w.want("gap RESET after  at ")
}

// A caller that does not read costs no memory: its place falls behind, and it is
// refilled from the log, whatever the room's policy says of slow sockets.
func TestWatchSlowly(t *testing.T) {
	t.Parallel()
	const count = 1000
	large := func(name room.Name, seq uint64) *room.Message {
		m := numbered(name, seq)
		m.Payload = room.Payload{Kind: room.Data, Bytes: bytes.Repeat([]byte("x"), 16<<10)}
		return m
	}
	for _, name := range []room.Name{"a", "strict:a"} {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			ts := start(t, func(_ *Config, r *recorder) {
				for i := range uint64(count) {
					r.pages[name] = append(r.pages[name], large(name, 101+i))
				}
			})
			w := openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: string(name)})
			for i := range uint64(count) {
				w.room.Append(large(name, 101+i))
			}
			for i := range count {
				event, err := w.Recv()
				if id := fmt.Sprintf("e.%d.7", 101+i); err != nil || event.GetMessage().GetId() != id {
					t.Fatalf("got %v, %v; want message %s", event, err, id)
				}
			}
		})
	}
}

func TestWatchEndsWithDrain(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: "a"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ts.server.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("the drain waited for the watch")
	}
	_, err := w.Recv()
	want{code: codes.Unavailable, reason: room.ReasonDraining, text: "last position", retry: true}.check(t, status.Convert(err))
}

// A watch whose caller does not read is cut, and does not hold the drain.
func TestUnreadWatchHoldsNoDrain(t *testing.T) {
	t.Parallel()
	const count = 100 // more than flow control lets through
	synctest.Test(t, func(t *testing.T) {
		ts := start(t, nil)
		w := openWatch(t.Context(), t, ts, &roomcastv1.WatchMessagesRequest{Room: "a"})
		for i := range uint64(count) {
			m := numbered("a", 101+i)
			m.Payload = room.Payload{Kind: room.Data, Bytes: bytes.Repeat([]byte("x"), 16<<10)}
			w.room.Append(m)
		}
		w.next()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // less than a call may take
		defer cancel()
		ts.server.Stop(ctx)
		if ctx.Err() != nil {
			t.Error("the drain waited for the watch")
		}
		for {
			if _, err := w.Recv(); err != nil {
				if status.Code(err) != codes.Unavailable {
					t.Errorf("got %v, want UNAVAILABLE", err)
				}
				return
			}
		}
	})
}

func TestWatchRefuses(t *testing.T) {
	t.Parallel()
	denied := want{code: codes.PermissionDenied, reason: room.ReasonForbidden, text: "history"}
	tests := map[string]struct {
		rpc  string
		req  *roomcastv1.WatchMessagesRequest
		want want
	}{
		"no room":       {"history", &roomcastv1.WatchMessagesRequest{}, want{code: codes.InvalidArgument, reason: room.ReasonInvalidRoom, field: "room"}},
		"no position":   {"history", &roomcastv1.WatchMessagesRequest{Room: "a:1", After: "x"}, want{code: codes.InvalidArgument, reason: room.ReasonInvalidPosition, field: "after"}},
		"another room":  {"history", &roomcastv1.WatchMessagesRequest{Room: "b:1"}, denied},
		"another right": {"publish", &roomcastv1.WatchMessagesRequest{Room: "a:1"}, denied},
	}
	ts := start(t, production)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := bearer(t, auth.Claims{RPC: []string{tt.rpc}, Rooms: map[string][]string{"a:*": {"subscribe"}}})
			stream, err := roomcastv1.NewHistoryServiceClient(ts.conn).WatchMessages(ctx, tt.req)
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			tt.want.check(t, status.Convert(err))
			if len(ts.rooms.heard()) != 0 {
				t.Error("the room is heard though the watch was refused")
			}
		})
	}
}
