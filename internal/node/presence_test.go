package node_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// topologies calls test with one node that has its NATS in it, and with three.
func topologies(t *testing.T, test func(t *testing.T, nodes []*nodetest.Node), changes ...nodetest.Config) {
	t.Helper()
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		test(t, nodetest.Start(t, 1, changes...))
	})
	t.Run("three", func(t *testing.T) {
		t.Parallel()
		test(t, together(t, nodetest.Start(t, 3, append(changes, nodetest.OnNATS(nodetest.StartNATS(t).URL))...)))
	})
}

// together waits until all nodes know of each other, and that there are no others.
func together(t testing.TB, nodes []*nodetest.Node) []*nodetest.Node {
	t.Helper()
	for _, n := range nodes {
		ask := asking(t, n)
		nodetest.Eventually(t, patience, n.Node+" knows the others", func() bool {
			resp, err := ask.GetRoom(bounded(t), &roomcastv1.GetRoomRequest{Room: "any"})
			return err == nil && resp.GetComplete() && len(listNodes(t, n)) == len(nodes)
		})
	}
	return nodes
}

func listNodes(t testing.TB, n *nodetest.Node) []*roomcastv1.Node {
	t.Helper()
	resp, err := roomcastv1.NewClusterServiceClient(n.Dial(t)).ListNodes(bounded(t), &roomcastv1.ListNodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetNodes()
}

// who is one who asks a node about presence.
type who struct {
	roomcastv1.PresenceServiceClient
	t testing.TB
}

func asking(t testing.TB, n *nodetest.Node) who {
	t.Helper()
	return who{roomcastv1.NewPresenceServiceClient(n.Dial(t)), t}
}

// answered is an answer that says whether every node had its part in it.
type answered interface {
	GetComplete() bool
	GetMissingNodes() []string
}

// whole asks until every node has answered: one that stands still for as long as the
// others wait is said to be missing, and that is right.
func whole[T answered](t testing.TB, ask func() (T, error)) (answer T) {
	t.Helper()
	nodetest.Eventually(t, patience, "all nodes answer", func() bool {
		var err error
		if answer, err = ask(); err != nil {
			t.Fatal(err)
		}
		if answer.GetComplete() && len(answer.GetMissingNodes()) > 0 {
			t.Fatalf("complete, and there are missing nodes: %v", answer)
		}
		return answer.GetComplete()
	})
	return answer
}

// members lists a room by pages of a size: "user@node".
func (w who) members(name string, size int32) (list []string) {
	w.t.Helper()
	req := &roomcastv1.ListMembersRequest{Room: name, PageSize: size}
	for {
		resp := whole(w.t, func() (*roomcastv1.ListMembersResponse, error) { return w.ListMembers(bounded(w.t), req) })
		if len(resp.GetMembers()) > int(size) {
			w.t.Fatalf("a page: %v", resp)
		}
		for _, m := range resp.GetMembers() {
			if m.GetConnection() == "" || time.Since(m.GetSince().AsTime()).Abs() > time.Hour {
				w.t.Errorf("member %v", m)
			}
			list = append(list, m.GetUser()+"@"+m.GetNode())
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return list
		}
	}
}

// count is a room's "connections/users".
func (w who) count(name string) string {
	w.t.Helper()
	resp := whole(w.t, func() (*roomcastv1.GetRoomResponse, error) {
		return w.GetRoom(bounded(w.t), &roomcastv1.GetRoomRequest{Room: name})
	})
	return fmt.Sprint(resp.GetConnections(), "/", resp.GetUsers())
}

func TestPresenceQueries(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, nodes []*nodetest.Node) {
		at := func(i int) *nodetest.Node { return nodes[i%len(nodes)] }
		var sockets []*socket
		for i, user := range []string{"ann", "ann", "bob"} {
			s := dial(t, at(i), token(t, user))
			s.subscribe("a", "")
			s.subscribe("a:more", "")
			sockets = append(sockets, s)
		}
		dial(t, at(1), token(t, "carol")).subscribe("b", "")
		sockets[2].subscribe("a", "") // again: that is no other member

		ask := asking(t, nodes[0])
		if got := ask.count("a"); got != "3/2" {
			t.Errorf("room a has %s, want 3 connections of 2 users", got)
		}
		if got := ask.count("nobody"); got != "0/0" {
			t.Errorf("room nobody has %s", got)
		}
		want := []string{"ann@" + at(0).Node, "ann@" + at(1).Node, "bob@" + at(2).Node}
		got := ask.members("a", 1)
		if got[0] > got[1] { // their connections are random
			got[0], got[1] = got[1], got[0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("members (-want +got):\n%s", diff)
		}
		if got := ask.members("a", 100); len(got) != 3 {
			t.Errorf("members in one page: %v", got)
		}
		checkRooms(t, ask)
		checkUser(t, ask, []string{at(0).Node, at(1).Node})
		checkCluster(t, nodes)

		for _, s := range sockets {
			s.answer(s.send(`{"unsubscribe":{"room":"a"}}`))
		}
		if got := ask.count("a"); got != "0/0" {
			t.Errorf("room a has %s after all have left", got)
		}
	})
}

// checkRooms lists the rooms by pages of one, and those with a prefix.
func checkRooms(t *testing.T, ask who) {
	t.Helper()
	for prefix, want := range map[string]string{"": "a 3/2, a:more 3/2, b 1/1, ", "a:": "a:more 3/2, ", "c": ""} {
		got := ""
		req := &roomcastv1.ListRoomsRequest{Prefix: prefix, PageSize: 1}
		for {
			resp := whole(t, func() (*roomcastv1.ListRoomsResponse, error) { return ask.ListRooms(bounded(t), req) })
			for _, r := range resp.GetRooms() {
				got += fmt.Sprintf("%s %d/%d, ", r.GetRoom(), r.GetConnections(), r.GetUsers())
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if got != want {
			t.Errorf("rooms with prefix %q are %q, want %q", prefix, got, want)
		}
	}
}

func checkUser(t *testing.T, ask who, nodes []string) {
	t.Helper()
	user := func(name string) *roomcastv1.GetUserResponse {
		return whole(t, func() (*roomcastv1.GetUserResponse, error) {
			return ask.GetUser(bounded(t), &roomcastv1.GetUserRequest{User: name})
		})
	}
	resp := user("ann")
	var got []string
	for _, c := range resp.GetConnections() {
		got = append(got, c.GetNode())
		if diff := cmp.Diff([]string{"a", "a:more"}, c.GetRooms()); diff != "" {
			t.Errorf("rooms of ann (-want +got):\n%s", diff)
		}
		if time.Since(c.GetConnected().AsTime()).Abs() > time.Hour {
			t.Errorf("connected %v", c.GetConnected().AsTime())
		}
	}
	slices.Sort(got) // they come by connections, which are random
	if diff := cmp.Diff(nodes, got); diff != "" {
		t.Errorf("ann's nodes (-want +got):\n%s", diff)
	}
	if resp := user("dave"); len(resp.GetConnections()) != 0 {
		t.Errorf("dave: %v", resp)
	}
}

// checkCluster looks at nodes and at the room a, which has 3 sockets in all.
func checkCluster(t *testing.T, nodes []*nodetest.Node) {
	t.Helper()
	var list []*roomcastv1.Node
	nodetest.Eventually(t, patience, "all nodes are listed, and ready", func() bool {
		list = listNodes(t, nodes[0])
		return len(list) == len(nodes) && !slices.ContainsFunc(list, func(n *roomcastv1.Node) bool { return len(n.GetNotReady()) > 0 })
	})
	connections := 0
	for i, n := range list {
		connections += int(n.GetConnections())
		if n.GetNode() != nodes[i].Node || n.GetVersion() != "test" || n.GetDraining() || n.GetRooms() == 0 {
			t.Errorf("node %d is %v", i, n)
		}
	}
	if connections != 4 {
		t.Errorf("the nodes have %d connections, want 4", connections)
	}
	cluster := roomcastv1.NewClusterServiceClient(nodes[len(nodes)-1].Dial(t))
	id := publish(t, nodes[0], text("a", "x"))
	nodetest.Eventually(t, patience, "all nodes stand at the head", func() bool {
		resp := whole(t, func() (*roomcastv1.ExplainRoomResponse, error) {
			return cluster.ExplainRoom(bounded(t), &roomcastv1.ExplainRoomRequest{Room: "a"})
		})
		if resp.GetHead() != id || len(resp.GetNodes()) != len(nodes) {
			t.Fatalf("explain: %v", resp)
		}
		sockets := 0
		for _, n := range resp.GetNodes() {
			if n.GetHead() != id {
				return false
			}
			sockets += int(n.GetConnections())
		}
		return sockets == 3
	})
	nodetest.Eventually(t, patience, "a page of nodes", func() bool {
		resp, err := cluster.ListNodes(bounded(t), &roomcastv1.ListNodesRequest{PageSize: 1})
		return err == nil && len(resp.GetNodes()) == 1 && (resp.GetNextPageToken() == "") == (len(nodes) == 1)
	})
}

// What presence refuses names the field, and what it may not show it does not show.
func TestPresenceRefusals(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, namespace("quiet", func(p *room.Policy) { p.Presence = false }))[0]
	dial(t, n, "").subscribe("quiet:1", "")
	ask := asking(t, n)
	for want, f := range map[string]func() error{
		"INVALID_ARGUMENT room is empty; a room name is 1 to 200 bytes": func() error {
			_, err := ask.GetRoom(bounded(t), &roomcastv1.GetRoomRequest{})
			return err
		},
		"INVALID_ARGUMENT page_size is -1; it must be 0 to 1000": func() error {
			_, err := ask.ListMembers(bounded(t), &roomcastv1.ListMembersRequest{Room: "a", PageSize: -1})
			return err
		},
		"INVALID_ARGUMENT page_token is no token of a page": func() error {
			_, err := ask.ListRooms(bounded(t), &roomcastv1.ListRoomsRequest{PageToken: "x"})
			return err
		},
		"INVALID_ARGUMENT user is empty": func() error {
			_, err := ask.GetUser(bounded(t), &roomcastv1.GetUserRequest{})
			return err
		},
		"FAILED_PRECONDITION the room's namespace has no presence": func() error {
			_, err := ask.ListMembers(bounded(t), &roomcastv1.ListMembersRequest{Room: "quiet:1"})
			return err
		},
	} {
		err := f()
		if got := code(err) + " " + status.Convert(err).Message(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	resp := whole(t, func() (*roomcastv1.ListRoomsResponse, error) {
		return ask.ListRooms(bounded(t), &roomcastv1.ListRoomsRequest{})
	})
	if len(resp.GetRooms()) != 0 {
		t.Errorf("rooms: %v; one without presence is not listed", resp)
	}
}

// code is a status code's name as people write it.
func code(err error) string {
	switch status.Code(err) {
	case codes.InvalidArgument:
		return "INVALID_ARGUMENT"
	case codes.FailedPrecondition:
		return "FAILED_PRECONDITION"
	default:
		return status.Code(err).String()
	}
}

// wholeReceipts publishes until every node is in each of the receipts, if there is one.
func wholeReceipts(t *testing.T, publish func() ([]*roomcastv1.Receipt, error)) (list []*roomcastv1.Receipt) {
	t.Helper()
	nodetest.Eventually(t, patience, "all nodes are in the receipts", func() bool {
		var err error
		if list, err = publish(); err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(list, func(r *roomcastv1.Receipt) bool { return r != nil && !r.GetComplete() })
	})
	return list
}

// A receipt counts who was subscribed when its node took the message in, each user once.
func TestReceipts(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, nodes []*nodetest.Node) {
		for i, user := range []string{"ann", "ann", "bob", "carol"} {
			s := dial(t, nodes[i%len(nodes)], token(t, user))
			s.subscribe("a", "")
			s.subscribe("eph:a", "")
		}
		publisher := roomcastv1.NewPublishServiceClient(nodes[0].Dial(t))
		want := func(how string, r *roomcastv1.Receipt, connections, users uint32) {
			t.Helper()
			if r == nil || r.GetConnections() != connections || r.GetUsers() != users || !r.GetComplete() || len(r.GetMissingNodes()) > 0 {
				t.Errorf("%s: receipt %v, want %d connections of %d users, complete", how, r, connections, users)
			}
		}
		with := func(name, excluded string) *roomcastv1.PublishRequest {
			r := text(name, "x")
			r.Receipt, r.ExcludeUser = true, excluded
			return r
		}
		for name, tt := range map[string]struct {
			req                *roomcastv1.PublishRequest
			connections, users uint32
		}{
			"all":       {with("a", ""), 4, 3},
			"excluded":  {with("a", "ann"), 2, 2},
			"nobody":    {with("b", ""), 0, 0},
			"ephemeral": {with("eph:a", "bob"), 3, 2},
		} {
			receipts := wholeReceipts(t, func() ([]*roomcastv1.Receipt, error) {
				resp, err := publisher.Publish(bounded(t), tt.req)
				return []*roomcastv1.Receipt{resp.GetReceipt()}, err
			})
			want(name, receipts[0], tt.connections, tt.users)
		}
		receipts := wholeReceipts(t, func() (list []*roomcastv1.Receipt, err error) {
			batch, err := publisher.PublishBatch(bounded(t), &roomcastv1.PublishBatchRequest{Messages: []*roomcastv1.PublishRequest{
				with("a", "ann"), text("a", "x"), with("a", ""), {Room: "*", Receipt: true},
			}})
			for i, r := range batch.GetResults() {
				if (r.GetError() != nil) != (i == 3) {
					t.Errorf("result %d of a batch: %v", i, r)
				}
				list = append(list, r.GetResponse().GetReceipt())
			}
			return list, err
		})
		want("first of a batch", receipts[0], 2, 2)
		want("third of a batch", receipts[2], 4, 3)
		if receipts[1] != nil || receipts[3] != nil {
			t.Errorf("the others of a batch: %v", receipts)
		}
		stream, err := publisher.PublishStream(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		receipts = wholeReceipts(t, func() (list []*roomcastv1.Receipt, err error) {
			for _, req := range []*roomcastv1.PublishRequest{with("a", ""), text("a", "x"), with("a", "ann")} {
				if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: req}); err != nil {
					return nil, err
				}
			}
			for range 3 {
				resp, err := stream.Recv()
				if err != nil {
					return nil, err
				}
				list = append(list, resp.GetResult().GetResponse().GetReceipt())
			}
			return list, nil
		})
		want("first of a stream", receipts[0], 4, 3)
		want("third of a stream", receipts[2], 2, 2)
		if receipts[1] != nil {
			t.Errorf("the second of a stream: %v", receipts[1])
		}
	}, namespace("eph", func(p *room.Policy) { p.History.Size = 0 }))
}

// A caller sees of a user what is in rooms that it may ask about, and everything if the
// user's personal room is one of them.
func TestGetUserIsBoundedByRooms(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	ann := dial(t, n, token(t, "ann"))
	ann.subscribe("orders:1", "")
	ann.subscribe("chat:1", "")
	dial(t, n, token(t, "ann")).subscribe("chat:1", "")
	tests := map[string]struct {
		room string
		want string
	}{
		"its rooms":         {"orders:*", "[orders:1] "},
		"another room":      {"x", ""},
		"the personal room": {"user:ann", "[] [] "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bearer, err := auth.Mint([]byte(nodetest.Key), auth.Claims{
				User: "backend", RPC: []string{auth.RPCPresence}, Expires: time.Now().Add(time.Hour),
				Rooms: map[string][]string{tt.room: {auth.RightSubscribe, auth.RightPublish, auth.RightPresence}},
			})
			if err != nil {
				t.Fatal(err)
			}
			resp := whole(t, func() (*roomcastv1.GetUserResponse, error) {
				ctx := metadata.AppendToOutgoingContext(bounded(t), "authorization", "Bearer "+bearer)
				return asking(t, n).GetUser(ctx, &roomcastv1.GetUserRequest{User: "ann"})
			})
			got := ""
			for _, c := range resp.GetConnections() {
				got += fmt.Sprint(c.GetRooms(), " ")
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
