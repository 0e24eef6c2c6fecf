package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// watching is a WatchRoom call.
type watching struct {
	t      testing.TB
	stream roomcastv1.PresenceService_WatchRoomClient
	begins *roomcastv1.WatchRoomResponse // not nil: the snapshot, which nobody has seen yet
}

// watchRoom watches a room, from a snapshot on in which all nodes are.
func watchRoom(t testing.TB, n *nodetest.Node, name string) *watching {
	t.Helper()
	w := &watching{t: t}
	asks := roomcastv1.NewPresenceServiceClient(n.Dial(t))
	whole(t, func() (_ *roomcastv1.WatchRoomResponse_Snapshot, err error) {
		if w.stream, err = asks.WatchRoom(bounded(t), &roomcastv1.WatchRoomRequest{Room: name}); err != nil {
			return nil, err
		}
		w.begins, err = w.stream.Recv()
		return w.begins.GetSnapshot(), err
	})
	return w
}

// next is the next event: "[ann@n1 bob@n2]", "+ann@n1", "-ann@n1 CLOSED".
func (w *watching) next() string {
	w.t.Helper()
	resp := w.begins
	if w.begins = nil; resp == nil {
		var err error
		if resp, err = w.stream.Recv(); err != nil {
			w.t.Fatal(err)
		}
	}
	who := func(m *roomcastv1.Member) string { return m.GetUser() + "@" + m.GetNode() }
	switch {
	case resp.GetJoin() != nil:
		return "+" + who(resp.GetJoin())
	case resp.GetLeave() != nil:
		return "-" + who(resp.GetLeave().GetMember()) + " " + resp.GetLeave().GetReason()
	}
	var list []string
	for _, m := range resp.GetSnapshot().GetMembers() {
		list = append(list, who(m))
	}
	return "[" + strings.Join(list, " ") + "]"
}

func TestWatchRoom(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, nodes []*nodetest.Node) {
		first, last := nodes[0], nodes[len(nodes)-1]
		ann := dial(t, last, token(t, "ann"))
		ann.subscribe("a", "")
		w := watchRoom(t, first, "a")
		want := func(event string) {
			t.Helper()
			if got := w.next(); got != event {
				t.Fatalf("event %q, want %q", got, event)
			}
		}
		want("[ann@" + last.Node + "]")
		bob := dial(t, first, token(t, "bob"))
		bob.subscribe("a", "")
		want("+bob@" + first.Node)
		ann.subscribe("a", "") // again: neither a leave nor a join
		ann.answer(ann.send(`{"unsubscribe":{"room":"a"}}`))
		want("-ann@" + last.Node + " UNSUBSCRIBED")
		_ = bob.conn.Close()
		want("-bob@" + first.Node + " CLOSED")
		if got := watchRoom(t, first, "a").next(); got != "[]" {
			t.Errorf("a second watch begins with %s", got)
		}
	})
}

// A guest that becomes a user leaves and joins for those who watch.
func TestWatchAGuest(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	s := dial(t, n, "")
	s.subscribe("a", "")
	w := watchRoom(t, n, "a")
	got := []string{w.next()}
	s.answer(s.send(fmt.Sprintf(`{"auth":{"token":%q}}`, token(t, "ann"))))
	got = append(got, w.next(), w.next())
	want := []string{"[guest@n1]", "-guest@n1 UNSUBSCRIBED", "+ann@n1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// presence reads frames to the next one about members: "[ann bob]", "+ann", "-ann CLOSED".
func (s *socket) presence() string {
	s.t.Helper()
	for {
		f := s.next()
		switch {
		case f.Members != nil:
			return f.Members.String()
		case f.Join != nil:
			return "+" + f.Join.User
		case f.Leave != nil:
			return "-" + f.Leave.User + " " + f.Leave.Reason
		}
	}
}

// watch subscribes a room with its members and returns who they are, once all nodes
// have told.
func (s *socket) watch(name string) string {
	s.t.Helper()
	var f frame
	nodetest.Eventually(s.t, patience, "all nodes tell who is there", func() bool {
		s.answer(s.send(fmt.Sprintf(`{"subscribe":{"room":%q,"presence":true}}`, name)))
		for f = s.next(); f.Members == nil; f = s.next() {
			continue
		}
		return f.Members.Complete
	})
	return f.Members.String()
}

func (f *membersFrame) String() string {
	var users []string
	for _, m := range f.Members {
		users = append(users, m.User)
	}
	slices.Sort(users)
	text := fmt.Sprintf("%s %v %d/%d", f.Room, users, f.Connections, f.Users)
	if !f.Complete {
		text += fmt.Sprint(" without ", f.MissingNodes)
	}
	return text
}

func TestSocketsWatchMembers(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, nodes []*nodetest.Node) {
		first, last := nodes[0], nodes[len(nodes)-1]
		ann := dial(t, first, token(t, "ann"))
		want := func(event string) {
			t.Helper()
			if got := ann.presence(); got != event {
				t.Fatalf("ann is told %q, want %q", got, event)
			}
		}
		if got := ann.watch("a"); got != "a [ann] 1/1" {
			t.Errorf("ann is told %q", got)
		}
		bob := dial(t, last, token(t, "bob"))
		bob.subscribe("a", "")
		want("+bob")
		var f frame
		nodetest.Eventually(t, patience, "all nodes answer", func() bool {
			f = bob.answer(bob.send(`{"members":{"room":"a"}}`))
			return f.Members == nil || f.Members.Complete
		})
		if f.Members == nil || f.Members.String() != "a [ann bob] 2/2" {
			t.Errorf("bob is answered %+v", f.Members)
		}
		bob.answer(bob.send(`{"unsubscribe":{"room":"a"}}`))
		want("-bob UNSUBSCRIBED")
		got := bob.watch("a")
		want("+bob")
		if got == "a [ann] 1/1" { // his own join is under way
			if got = bob.presence(); got != "+bob" {
				t.Errorf("bob is told %q", got)
			}
		} else if got != "a [ann bob] 2/2" {
			t.Errorf("bob is told %q", got)
		}
		_ = bob.conn.Close()
		want("-bob CLOSED")

		ann.subscribe("a", "") // without presence from now on
		dial(t, first, token(t, "carol")).subscribe("a", "")
		if told := ann.toldBefore(ann.send(`{"members":{"room":"a"}}`)); len(told) > 0 {
			t.Errorf("ann is told of carol: %v", told)
		}
	})
}

// Presence is shown to those who may see it.
func TestSocketsMayNotWatchMembers(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, namespace("quiet", func(p *room.Policy) { p.Presence = false }))[0]
	mint := func(rooms map[string][]string) string {
		text, err := auth.Mint([]byte(nodetest.Key), auth.Claims{User: "ann", Rooms: rooms, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	may := mint(map[string][]string{"*": {auth.RightSubscribe, auth.RightPresence}})
	mayNot := mint(map[string][]string{"*": {auth.RightSubscribe}})
	for name, tt := range map[string]struct{ token, request, want string }{
		"subscribe without the right":  {mayNot, `{"subscribe":{"room":"a","presence":true}}`, "PERMISSION_DENIED FORBIDDEN"},
		"members without the right":    {mayNot, `{"members":{"room":"a"}}`, "PERMISSION_DENIED FORBIDDEN"},
		"subscribe without presence":   {may, `{"subscribe":{"room":"quiet:a","presence":true}}`, "FAILED_PRECONDITION NO_PRESENCE"},
		"members without presence":     {may, `{"members":{"room":"quiet:a"}}`, "FAILED_PRECONDITION NO_PRESENCE"},
		"members of what is no room":   {may, `{"members":{"room":"*"}}`, "INVALID_ARGUMENT INVALID_ROOM"},
		"members of one's own by name": {mayNot, `{"members":{"room":"user:ann"}}`, "PERMISSION_DENIED FORBIDDEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dial(t, n, tt.token)
			f := s.answer(s.send(tt.request))
			if f.Error == nil || f.Error.Code+" "+f.Error.Reason != tt.want {
				t.Errorf("answered %+v, want %s", f.Error, tt.want)
			}
		})
	}
	// A newer token that does not allow it any more ends it.
	s := dial(t, n, may)
	if got := s.watch("a"); got != "a [ann] 1/1" {
		t.Errorf("told %q", got)
	}
	s.send(fmt.Sprintf(`{"auth":{"token":%q}}`, mayNot))
	for f := s.next(); ; f = s.next() {
		if f.Error != nil {
			if f.Error.Reason != "FORBIDDEN" {
				t.Errorf("told %+v", f.Error)
			}
			break
		}
	}
	dial(t, n, may).subscribe("a", "")
	if told := s.toldBefore(s.send(`{"ping":{}}`)); len(told) > 0 {
		t.Errorf("told of a join without the right: %v", told)
	}
}

// toldBefore reads to the answer of a request and returns the joins before it.
func (s *socket) toldBefore(id uint32) (joins []string) {
	s.t.Helper()
	for f := s.next(); f.ID != id; f = s.next() {
		if f.Join != nil {
			joins = append(joins, f.Join.User)
		}
	}
	return joins
}

// A personal room needs no grant of its own, on every node.
func TestPersonalRooms(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, nodes []*nodetest.Node) {
		last := nodes[len(nodes)-1]
		own, err := auth.Mint([]byte(nodetest.Key), auth.Claims{User: "ann", Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		s := dial(t, last, own)
		s.subscribe("user:ann", "")
		f := s.answer(s.send(`{"subscribe":{"room":"user:bob"}}`))
		if f.Error == nil || f.Error.Reason != "FORBIDDEN" {
			t.Errorf("another's room: answered %+v", f)
		}
		req := text("user:ann", "for you")
		req.Receipt = true
		publisher := roomcastv1.NewPublishServiceClient(nodes[0].Dial(t))
		receipts := wholeReceipts(t, func() ([]*roomcastv1.Receipt, error) {
			resp, err := publisher.Publish(bounded(t), req)
			if got := s.messages(1)[0]; got.Text != "for you" || got.ID != resp.GetId() {
				t.Errorf("got %+v", got)
			}
			return []*roomcastv1.Receipt{resp.GetReceipt()}, err
		})
		if receipts[0].GetUsers() != 1 {
			t.Errorf("receipt %v", receipts[0])
		}
		if got := asking(t, nodes[0]).members("user:ann", 10); len(got) != 1 || got[0] != "ann@"+last.Node {
			t.Errorf("members %v", got)
		}
	})
}
