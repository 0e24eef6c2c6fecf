package node_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/nodetest"
)

func connections(t testing.TB, n *nodetest.Node) roomcastv1.ConnectionServiceClient {
	t.Helper()
	return roomcastv1.NewConnectionServiceClient(n.Dial(t))
}

// three nodes on one NATS, who know each other.
func three(t testing.TB) []*nodetest.Node {
	t.Helper()
	return together(t, nodetest.Start(t, 3, nodetest.OnNATS(nodetest.StartNATS(t).URL)))
}

// wantEnd reads to the close frame and returns the messages before it.
func (s *socket) wantEnd(code int, reason string) (before []message) {
	s.t.Helper()
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(patience)) // never fails
		_, data, err := s.conn.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, code) || !strings.HasSuffix(err.Error(), ": "+reason) {
				s.t.Errorf("ended with %v, want %d %s", err, code, reason)
			}
			return before
		}
		if f := parse(s.t, data); f.Message != nil {
			before = append(before, *f.Message)
		}
	}
}

func TestConnectionsOfThreeNodes(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	var sockets []*socket
	var want []string
	for i := range 9 {
		user := []string{"ann", "bob"}[i%2]
		s := dial(t, nodes[i%3], token(t, user))
		s.subscribe("lobby", "")
		sockets, want = append(sockets, s), append(want, user+" "+nodes[i%3].Node+" [lobby]")
	}
	slices.Sort(want)
	asks := connections(t, nodes[1])
	var got []string
	req := &roomcastv1.ListConnectionsRequest{Room: "lobby", PageSize: 2}
	for {
		resp := whole(t, func() (*roomcastv1.ListConnectionsResponse, error) { return asks.ListConnections(bounded(t), req) })
		for _, c := range resp.GetConnections() {
			got = append(got, fmt.Sprint(c.GetUser(), " ", c.GetNode(), " ", c.GetRooms()))
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}

	command(t, 5, (*roomcastv1.SubscribeResponse).GetConnections, func() (*roomcastv1.SubscribeResponse, error) {
		return asks.Subscribe(bounded(t), &roomcastv1.SubscribeRequest{User: "ann", Room: "stage"})
	})
	publish(t, nodes[0], text("stage", "hello"))
	for i, s := range sockets {
		if i%2 == 1 {
			continue
		}
		if f := s.next(); f.Subscribed == nil || f.Subscribed.Room != "stage" || f.ID != 0 {
			t.Errorf("socket %d: %+v, want to be subscribed to stage", i, f)
		}
		if m := s.messages(1)[0]; m.Text != "hello" {
			t.Errorf("socket %d got %+v", i, m)
		}
	}
	command(t, 5, (*roomcastv1.UnsubscribeResponse).GetConnections, func() (*roomcastv1.UnsubscribeResponse, error) {
		return asks.Unsubscribe(bounded(t), &roomcastv1.UnsubscribeRequest{User: "ann", Room: "stage"})
	})
	command(t, 9, (*roomcastv1.DisconnectResponse).GetDisconnected, func() (*roomcastv1.DisconnectResponse, error) {
		return asks.Disconnect(bounded(t), &roomcastv1.DisconnectRequest{
			Target: &roomcastv1.DisconnectRequest_Room{Room: "lobby"}, Reason: "closing-time",
		})
	})
	for _, s := range sockets {
		s.wantEnd(4403, "DISCONNECTED closing-time")
	}
}

// crowd opens sockets of one user on the nodes in turn, each in a room.
func crowd(t testing.TB, nodes []*nodetest.Node, bearer, name string, count int) []*socket {
	t.Helper()
	sockets := make([]*socket, count)
	var dialling sync.WaitGroup
	for part := range 8 {
		dialling.Go(func() {
			for i := part; i < count && !t.Failed(); i += 8 {
				sockets[i] = dial(t, nodes[i%len(nodes)], bearer)
				sockets[i].subscribe(name, "")
			}
		})
	}
	dialling.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return sockets
}

func revokeUser(user string) *roomcastv1.RevokeTokensRequest {
	return &roomcastv1.RevokeTokensRequest{Target: &roomcastv1.RevokeTokensRequest_User{User: user}}
}

// command gives a command until every node has carried it out, and wants it to have met
// so many sockets, if that was at once: those of a node that takes too long are not counted.
func command[T answered](t *testing.T, want uint32, count func(T) uint32, give func() (T, error)) {
	t.Helper()
	tries := 0
	answer := whole(t, func() (T, error) {
		tries++
		return give()
	})
	if met := count(answer); tries == 1 && met != want {
		t.Fatalf("%d sockets were met, want %d", met, want)
	}
}

// revoke revokes tokens, which closes so many sockets.
func revoke(t *testing.T, n *nodetest.Node, want uint32, req *roomcastv1.RevokeTokensRequest) {
	t.Helper()
	asks := connections(t, n)
	command(t, want, (*roomcastv1.RevokeTokensResponse).GetDisconnected, func() (*roomcastv1.RevokeTokensResponse, error) {
		return asks.RevokeTokens(bounded(t), req)
	})
}

// TestRevokeTokensOnThreeNodes: every socket of the user is closed, and what is
// published after the call is delivered to none of them. A node that was stopped
// meanwhile refuses the token when it comes back.
func TestRevokeTokensOnThreeNodes(t *testing.T) {
	t.Parallel()
	const count = 300
	url := nodetest.StartNATS(t).URL
	nodes := nodetest.Start(t, 4, nodetest.OnNATS(url))
	together(t, nodes)
	revoked := token(t, "ann")
	sockets := crowd(t, nodes[:3], revoked, "news", count)
	bob := dial(t, nodes[0], token(t, "bob"))
	bob.subscribe("news", "")
	publish(t, nodes[1], text("news", "before"))
	if err := nodes[3].Stop(); err != nil {
		t.Fatal(err)
	}

	revoke(t, nodes[2], count, revokeUser("ann"))
	publish(t, nodes[1], text("news", "after"))
	if got := texts(bob.messages(2)); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("another user's socket got %q", got)
	}
	for i, s := range sockets {
		got := texts(s.wantEnd(4401, "TOKEN_REVOKED"))
		if len(got) > 1 || len(got) == 1 && got[0] != "before" {
			t.Errorf("socket %d got %q", i, got)
		}
	}
	back := nodetest.StartOne(t, nodetest.NewConfig(t, 4, nodetest.OnNATS(url)))
	for _, n := range append(nodes[:3:3], back) {
		wantRefused(t, n, revoked)
	}
}

// wantRefused shows a token to a node in each way that there is.
func wantRefused(t *testing.T, n *nodetest.Node, bearer string) {
	t.Helper()
	_, resp, err := websocket.DefaultDialer.DialContext(bounded(t), n.SocketURL(), http.Header{"Authorization": {"Bearer " + bearer}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%s: a socket with the token in its header: %v, %v; want 401", n.Node, resp, err)
	} else {
		_ = resp.Body.Close()
	}
	guest := dial(t, n, "")
	if f := guest.answer(guest.send(fmt.Sprintf(`{"auth":{"token":%q}}`, bearer))); f.Error == nil || f.Error.Reason != "TOKEN_REVOKED" {
		t.Errorf("%s: the token in a frame: %+v", n.Node, f)
	}
	ctx := metadata.AppendToOutgoingContext(bounded(t), "authorization", "Bearer "+bearer)
	_, err = connections(t, n).ListConnections(ctx, &roomcastv1.ListConnectionsRequest{})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("%s: a call with the token: %v, want it to be refused as revoked", n.Node, err)
	}
}

// TestRevokeTokensOfADeafNode: a node that hears nothing of the others is named as
// missing, finds the revocation in the stream and closes the sockets.
func TestRevokeTokensOfADeafNode(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	hears := nodetest.StartOne(t, nodetest.NewConfig(t, 1, nodetest.OnNATS(nats.URL)))
	deaf := nodetest.StartOne(t, nodetest.NewConfig(t, 2, nodetest.OnNATS(nodetest.StartProxy(t, nats.URL, "rc.ctl.", 1).URL)))
	nodetest.Eventually(t, patience, "the other node is expected", func() bool {
		resp, err := connections(t, hears).ListConnections(bounded(t), &roomcastv1.ListConnectionsRequest{})
		return err == nil && slices.Equal(resp.GetMissingNodes(), []string{"n2"})
	})
	bearer := token(t, "ann")
	s := dial(t, deaf, bearer)
	resp, err := connections(t, hears).RevokeTokens(bounded(t), revokeUser("ann"))
	if err != nil || resp.GetComplete() || !slices.Contains(resp.GetMissingNodes(), "n2") {
		t.Errorf("revoke: %v, %v; want n2 to be missing", resp, err)
	}
	s.wantEnd(4401, "TOKEN_REVOKED")
	wantRefused(t, deaf, bearer)
}

// TestRevokeTokensByID: the other tokens of the user stay good.
func TestRevokeTokensByID(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0] // with a NATS of its own
	named := func(id string) string {
		text, err := auth.Mint([]byte(nodetest.Key), auth.Claims{User: "ann", ID: id, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	lost, kept := dial(t, n, named("t1")), dial(t, n, named("t2"))
	revoke(t, n, 1, &roomcastv1.RevokeTokensRequest{Target: &roomcastv1.RevokeTokensRequest_TokenId{TokenId: "t1"}})
	lost.wantEnd(4401, "TOKEN_REVOKED")
	kept.answer(kept.send(`{"ping":{}}`))
	wantRefused(t, n, named("t1"))
}

func TestRevokeTokensWithNATSAway(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	n := nodetest.StartOne(t, nodetest.NewConfig(t, 1, nodetest.OnNATS(nats.URL)))
	s := dial(t, n, token(t, "ann"))
	nats.Stop()
	_, err := connections(t, n).RevokeTokens(bounded(t), revokeUser("ann"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "revoke them again") {
		t.Errorf("revoke: %v, want UNAVAILABLE", err)
	}
	s.answer(s.send(`{"ping":{}}`))
	nats.Start()
	nodetest.Eventually(t, patience, "the tokens can be revoked", func() bool {
		_, err := connections(t, n).RevokeTokens(bounded(t), revokeUser("ann"))
		return err == nil
	})
	s.wantEnd(4401, "TOKEN_REVOKED")
}

// BenchmarkRevokeTokens revokes the tokens of a user with 1,000 sockets on 3 nodes, and
// says how long the call takes, and how long it is from its beginning until the last
// socket has read its close frame.
func BenchmarkRevokeTokens(b *testing.B) {
	nodes := three(b)
	asks := connections(b, nodes[0])
	var answered, ended time.Duration
	for round := 0; b.Loop(); round++ {
		b.StopTimer()
		user := fmt.Sprint("ann", round)
		sockets := crowd(b, nodes, token(b, user), "news", 1000)
		var ending sync.WaitGroup
		for _, s := range sockets {
			ending.Go(func() { s.wantEnd(4401, "TOKEN_REVOKED") })
		}
		b.StartTimer()
		began := time.Now()
		resp, err := asks.RevokeTokens(bounded(b), revokeUser(user))
		answered += time.Since(began)
		if err != nil || resp.GetDisconnected() != 1000 || !resp.GetComplete() {
			b.Fatalf("revoke: %v, %v", resp, err)
		}
		ending.Wait()
		ended += time.Since(began)
	}
	b.ReportMetric(float64(answered.Microseconds())/1000/float64(b.N), "ms/answer")
	b.ReportMetric(float64(ended.Microseconds())/1000/float64(b.N), "ms/last-close")
}
