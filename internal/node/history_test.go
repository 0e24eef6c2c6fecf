package node_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// purge purges a room on a node and returns how many messages that removed.
func purge(t testing.TB, n *nodetest.Node, name string) uint32 {
	t.Helper()
	resp, err := roomcastv1.NewHistoryServiceClient(n.Dial(t)).PurgeRoom(bounded(t), &roomcastv1.PurgeRoomRequest{Room: name})
	if err != nil {
		t.Fatalf("purge: %v", err)
	}
	return resp.GetPurged()
}

// list lists a room in pages of a size and returns the bodies.
func list(t testing.TB, n *nodetest.Node, req *roomcastv1.ListMessagesRequest) (all []string) {
	t.Helper()
	for {
		resp, err := roomcastv1.NewHistoryServiceClient(n.Dial(t)).ListMessages(bounded(t), req)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, m := range resp.GetMessages() {
			all = append(all, m.GetText())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
	}
}

// aged makes a log forget by age all that it has now, as it would after its ttl.
func aged(t testing.TB, nats *nodetest.NATS, stream string) {
	t.Helper()
	js, err := jetstream.New(nats.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(bounded(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	was := s.CachedInfo().Config
	short := was
	short.MaxAge, short.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := js.UpdateStream(bounded(t), short); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "all messages age out", func() bool {
		info, err := s.Info(bounded(t))
		return err == nil && info.State.Msgs == 0
	})
	if _, err := js.UpdateStream(bounded(t), was); err != nil {
		t.Fatal(err)
	}
}

// agedRooms makes a log forget what rooms have in it, as age would. What the nodes
// store there themselves, every two seconds, stays: it may be newer than a position that
// is to stay good.
func agedRooms(t testing.TB, nats *nodetest.NATS, stream string) {
	t.Helper()
	nc := nats.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(bounded(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	all := nodetest.Log(t, nc, stream)
	if err := s.Purge(bounded(t), jetstream.WithPurgeSequence(all[len(all)-1].Sequence+1)); err != nil {
		t.Fatal(err)
	}
}

// purgeHeard purges a room on a node that has it, and waits until the node has heard so.
func purgeHeard(t *testing.T, n *nodetest.Node, name string) {
	t.Helper()
	s := dial(t, n, "")
	s.subscribe(name, "")
	purge(t, n, name)
	f := s.next()
	for f.Message != nil { // it was acknowledged, and still on its way to the node
		f = s.next()
	}
	if f.Gap == nil {
		t.Fatalf("got %+v, want a gap", f)
	}
}

// TestHistoryEnds has what a socket is told that comes back to a history which is not
// what it was. The socket left at `place`, then `meanwhile` happened, and it resumes on
// the node that had the room all the time, and on one that has only the log.
func TestHistoryEnds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		room      string
		before    int    // messages of the room before the socket leaves
		place     string // first, newest, or idle: a position of the room before its first message
		meanwhile func(*testing.T, *nodetest.NATS, *nodetest.Node)
		gap       string
		want      []string
		proven    bool     // the ring of the node that had the room proves what the log cannot:
		inRing    []string // no gap, and these
	}{
		"10,000 missed messages": {
			"large:1", 1, "first", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				for i := 0; i < 10_000; i += 1000 {
					publishAll(t, n, "large:1", numbered(10_000)[i:i+1000])
				}
			}, "", numbered(10_000), false, nil,
		},
		"pushed out by newer ones": {
			"small:1", 2, "newest", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				s := dial(t, n, "")
				s.subscribe("small:1", "")
				publishAll(t, n, "small:1", numbered(600)) // more than a ring holds
				s.messages(600)
			}, "TRUNCATED", []string{"596", "597", "598", "599"}, false, nil, // the anchor too: there is a gap anyway
		},
		"as many as the history holds": {
			"small:1", 2, "newest", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				publishAll(t, n, "small:1", numbered(3))
			}, "", numbered(3), false, nil,
		},
		"first ones of an idle room": {
			"small:1", 0, "idle", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				publishAll(t, n, "small:1", numbered(3))
			}, "", numbered(3), false, nil,
		},
		"purged": {
			"hello", 3, "newest", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				publishAll(t, n, "hello", []string{"unseen"})
				purgeHeard(t, n, "hello")
				publishAll(t, n, "hello", []string{"a", "b"})
			}, "TRUNCATED", []string{"a", "b"}, false, nil,
		},
		"purged and nothing since": {
			"hello", 3, "first", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) { t.Helper(); purgeHeard(t, n, "hello") },
			"TRUNCATED", nil, false, nil,
		},
		"purged, idle before": {
			"hello", 0, "idle", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				publishAll(t, n, "hello", []string{"unseen"})
				purgeHeard(t, n, "hello")
				publishAll(t, n, "hello", []string{"a"})
			}, "TRUNCATED", []string{"a"}, false, nil,
		},
		"purged twice": {
			"hello", 3, "first", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				purgeHeard(t, n, "hello")
				publishAll(t, n, "hello", []string{"unseen"})
				purgeHeard(t, n, "hello")
				publishAll(t, n, "hello", []string{"a"})
			}, "TRUNCATED", []string{"a"}, false, nil,
		},
		"expired by its ttl": {
			"hello", 1, "newest", func(t *testing.T, _ *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				short := text("hello", "short")
				short.Ttl = durationpb.New(time.Second)
				publish(t, n, short)
				published := time.Now()
				publishAll(t, n, "hello", []string{"a"})
				nodetest.Eventually(t, patience, "the ttl passes", func() bool { return time.Since(published) > 1100*time.Millisecond })
			}, "", []string{"a"}, false, nil,
		},
		"aged out": {
			"hello", 3, "newest", func(t *testing.T, nats *nodetest.NATS, _ *nodetest.Node) { t.Helper(); aged(t, nats, "RC_default") },
			"TRUNCATED", nil, true, nil,
		},
		"aged out, and others since": {
			"hello", 3, "newest", func(t *testing.T, nats *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				aged(t, nats, "RC_default")
				publishAll(t, n, "hello", []string{"a"})
			}, "TRUNCATED", []string{"a"}, true, []string{"a"},
		},
		"idle, as others aged out": {
			"hello", 0, "idle", func(t *testing.T, nats *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				agedRooms(t, nats, "RC_default")
				publishAll(t, n, "hello", []string{"a"})
			}, "", []string{"a"}, false, nil,
		},
		"idle, its own aged out unseen": {
			"hello", 0, "idle", func(t *testing.T, nats *nodetest.NATS, n *nodetest.Node) {
				t.Helper()
				publishAll(t, n, "hello", []string{"unseen"})
				aged(t, nats, "RC_default")
			}, "TRUNCATED", nil, true, []string{"unseen"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nats := nodetest.StartNATS(t)
			nodes := nodetest.Start(t, 2, nodetest.OnNATS(nats.URL),
				namespace("small", func(p *room.Policy) { p.History.Size = 3 }),
				namespace("large", func(p *room.Policy) { p.History.Size = 20_000 }))
			publishAll(t, nodes[0], "other", []string{"x"})
			publishAll(t, nodes[0], "small:other", []string{"x"})
			places := map[string]string{"idle": dial(t, nodes[0], "").subscribe(test.room, "")} // keeps the room
			if stored := publishAll(t, nodes[0], test.room, numbered(test.before)); test.before > 0 {
				places["first"], places["newest"] = stored[0], stored[test.before-1]
			}
			test.meanwhile(t, nats, nodes[0])
			wantResumed(t, "from the log", nodes[1], test.room, places[test.place], test.gap, test.want)
			if test.proven {
				test.gap, test.want = "", test.inRing
			}
			wantResumed(t, "where it was", nodes[0], test.room, places[test.place], test.gap, test.want)
		})
	}
}

// wantResumed resumes a room on a node, and again from where that has led to: now
// nothing is missing.
func wantResumed(t *testing.T, what string, n *nodetest.Node, name, after, gap string, want []string) {
	t.Helper()
	s := dial(t, n, "")
	s.subscribe(name, after)
	if gap != "" {
		f := s.next()
		if f.Gap == nil || f.Gap.Reason != gap || f.Gap.After != after {
			t.Fatalf("%s: got %+v, want a gap %s after %s", what, f, gap, after)
		}
		after = f.Gap.Position
	}
	got := s.messages(len(want))
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	if len(got) > 0 {
		after = got[len(got)-1].ID
	}
	wantQuiet(t, what, s)
	if after == "" {
		t.Fatalf("%s: it has no position to resume from", what)
	}
	again := dial(t, n, "")
	again.subscribe(name, after)
	wantQuiet(t, what+", again", again)
}

// wantQuiet fails if anything is under way to a socket.
func wantQuiet(t *testing.T, what string, s *socket) {
	t.Helper()
	for range 2 {
		id := s.send(`{"ping":{}}`)
		for f := s.next(); f.ID != id; f = s.next() {
			t.Errorf("%s: more comes: %+v", what, f)
		}
	}
}

// A purge is told to the sockets of every node, once, and listings show what is left.
func TestPurgeRoom(t *testing.T) {
	t.Parallel()
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL))
	sockets := []*socket{dial(t, nodes[0], ""), dial(t, nodes[1], "")}
	for _, s := range sockets {
		s.subscribe("hello", "")
	}
	stored := publishAll(t, nodes[0], "hello", numbered(10))
	for _, s := range sockets {
		s.messages(10)
	}
	if n := purge(t, nodes[1], "hello"); n != 10 {
		t.Errorf("%d messages purged, want 10", n)
	}
	marker := ""
	for i, s := range sockets {
		f := s.next()
		if f.Gap == nil || f.Gap.Reason != "TRUNCATED" || f.Gap.After != stored[9] || f.Gap.Position == "" || marker != "" && f.Gap.Position != marker {
			t.Fatalf("node %d: got %+v, want a gap after %s", i, f, stored[9])
		}
		marker = f.Gap.Position
	}
	if got := dial(t, nodes[0], "").subscribe("hello", ""); got != marker {
		t.Errorf("a socket that comes now stands at %s, want %s", got, marker)
	}
	if got := list(t, nodes[0], &roomcastv1.ListMessagesRequest{Room: "hello"}); len(got) != 0 {
		t.Errorf("listed %v after the purge", got)
	}
	publishAll(t, nodes[0], "hello", numbered(3))
	for i, s := range sockets {
		if diff := cmp.Diff(numbered(3), texts(s.messages(3))); diff != "" {
			t.Errorf("node %d (-want +got):\n%s", i, diff)
		}
		wantQuiet(t, fmt.Sprint("node ", i), s)
	}
	for _, size := range []int32{0, 1, 2} {
		forth := list(t, nodes[1], &roomcastv1.ListMessagesRequest{Room: "hello", PageSize: size})
		back := list(t, nodes[1], &roomcastv1.ListMessagesRequest{Room: "hello", PageSize: size, NewestFirst: true})
		if fmt.Sprint(forth, back) != "[0 1 2] [2 1 0]" {
			t.Errorf("pages of %d: listed %v and back %v", size, forth, back)
		}
	}
}

// watch opens a watch and waits until it has begun. It returns its position.
func watch(ctx context.Context, t testing.TB, n *nodetest.Node, name, after string) (roomcastv1.HistoryService_WatchMessagesClient, string) {
	t.Helper()
	stream, err := roomcastv1.NewHistoryServiceClient(n.Dial(t)).
		WatchMessages(ctx, &roomcastv1.WatchMessagesRequest{Room: name, After: after})
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil || len(header.Get("roomcast-position")) != 1 {
		t.Fatalf("watch: header %v, %v", header, err)
	}
	return stream, header.Get("roomcast-position")[0]
}

// A watch goes on where the one before ended: its node drains, it resumes on another
// one after what it had, though messages came meanwhile, and then a purge.
func TestWatchMessagesAcrossNodes(t *testing.T) {
	t.Parallel()
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL))
	stream, position := watch(bounded(t), t, nodes[0], "hello", "")
	var got []string
	take := func(count int) {
		t.Helper()
		for range count {
			event, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if gap := event.GetGap(); gap != nil {
				got = append(got, gap.GetReason())
				position = gap.GetPosition()
				continue
			}
			got, position = append(got, event.GetMessage().GetText()), event.GetMessage().GetId()
		}
	}
	publishAll(t, nodes[1], "hello", numbered(3))
	take(2) // the third is under way
	if err := nodes[0].Stop(); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ended with %v, want %s", err, codes.Unavailable)
	}
	publishAll(t, nodes[1], "hello", []string{"3"})
	stream, _ = watch(bounded(t), t, nodes[1], "hello", position)
	take(2)
	purge(t, nodes[1], "hello")
	take(1)
	stream, _ = watch(bounded(t), t, nodes[1], "hello", position)
	publishAll(t, nodes[1], "hello", []string{"4"})
	take(1)
	if want := append(numbered(4), "TRUNCATED", "4"); !cmp.Equal(want, got) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A socket that does not read is behind in the ring and the log when the room is
// purged. It gets what was on its way, one gap right after that, and what followed.
func TestPurgeWhileSocketIsBehind(t *testing.T) {
	t.Parallel()
	const count = 300 // far more than the kernel and the ring hold
	n := nodetest.Start(t, 1)[0]
	slow := &websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(32 << 10) //nolint:forcetypeassert // network is tcp
		}
		return conn, err
	}}
	conn, resp, err := slow.DialContext(bounded(t), n.SocketURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // it is empty
	t.Cleanup(func() { _ = conn.Close() })
	s := &socket{t: t, conn: conn}
	after := s.subscribe("hello", "")
	padding := strings.Repeat("x", 16<<10)
	var bodies []string
	for i := range count {
		bodies = append(bodies, strconv.Itoa(i)+padding)
	}
	publishAll(t, n, "hello", bodies)
	purge(t, n, "hello")
	publishAll(t, n, "hello", []string{"a", "b"})
	f, had := s.next(), 0
	for ; f.Message != nil; f = s.next() {
		if got := strings.TrimRight(f.Message.Text, "x"); got != strconv.Itoa(had) {
			t.Fatalf("got %s after %d messages", got, had)
		}
		had, after = had+1, f.Message.ID
	}
	if had == count || f.Gap == nil || f.Gap.Reason != "TRUNCATED" || f.Gap.After != after {
		t.Fatalf("after %d of %d messages, the last %s: got %+v, want a gap there", had, count, after, f)
	}
	if diff := cmp.Diff([]string{"a", "b"}, texts(s.messages(2))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wantQuiet(t, "after the purge", s)
}
