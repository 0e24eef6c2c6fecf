package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/room"
)

// switchboard is the sockets of all nodes in memory: each call counts as one socket, and
// a node does not answer.
type switchboard struct {
	sockets []*roomcastv1.Connection // static, sorted
	err     error                    // static: of Revoke

	mu   sync.Mutex
	done []string // guarded by mu: what was called, with what
}

func (s *switchboard) note(method string, what any) (uint32, bus.Attendance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, strings.Join(strings.Fields(fmt.Sprint(method, " ", what)), " "))
	return 1, bus.Attendance{Missing: []string{"n2"}}
}

func (s *switchboard) called() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

func (s *switchboard) List(_ context.Context, q *busv1.ConnectionQuery) ([]*roomcastv1.Connection, bool, bus.Attendance) {
	var page []*roomcastv1.Connection
	for _, c := range s.sockets {
		if c.GetUser()+c.GetConnection() <= q.GetAfterUser()+q.GetAfterConnection() {
			continue
		}
		if len(page) == int(q.GetLimit()) {
			return page, true, bus.Attendance{Complete: true}
		}
		page = append(page, proto.CloneOf(c)) // its rooms are cut
	}
	return page, false, bus.Attendance{Complete: true}
}

func (s *switchboard) Disconnect(_ context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance) {
	return s.note("disconnect", cmd)
}

func (s *switchboard) Subscribe(_ context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance) {
	return s.note("subscribe", cmd)
}

func (s *switchboard) Unsubscribe(_ context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance) {
	return s.note("unsubscribe", cmd)
}

func (s *switchboard) Revoke(_ context.Context, r room.Revocation) (uint32, bus.Attendance, error) {
	n, who := s.note("revoke", fmt.Sprintf("%q %q %d", r.User, r.TokenID, r.Before))
	return n, who, s.err
}

// reply is what all answers of commands have.
type reply interface {
	GetComplete() bool
	GetMissingNodes() []string
}

// act makes a call of a connectionService from its request.
func act(ctx context.Context, client roomcastv1.ConnectionServiceClient, req any) (count uint32, r reply, err error) {
	switch req := req.(type) {
	case *roomcastv1.DisconnectRequest:
		resp, err := client.Disconnect(ctx, req)
		return resp.GetDisconnected(), resp, err
	case *roomcastv1.SubscribeRequest:
		resp, err := client.Subscribe(ctx, req)
		return resp.GetConnections(), resp, err
	case *roomcastv1.UnsubscribeRequest:
		resp, err := client.Unsubscribe(ctx, req)
		return resp.GetConnections(), resp, err
	case *roomcastv1.RevokeTokensRequest:
		resp, err := client.RevokeTokens(ctx, req)
		return resp.GetDisconnected(), resp, err
	case *roomcastv1.ListConnectionsRequest:
		resp, err := client.ListConnections(ctx, req)
		return uint32(len(resp.GetConnections())), resp, err
	}
	return 0, nil, fmt.Errorf("no call of %T", req)
}

// Requests, in few letters.
func byUser(user, word string) *roomcastv1.DisconnectRequest {
	return &roomcastv1.DisconnectRequest{Target: &roomcastv1.DisconnectRequest_User{User: user}, Reason: word}
}

func byConnection(id string) *roomcastv1.DisconnectRequest {
	return &roomcastv1.DisconnectRequest{Target: &roomcastv1.DisconnectRequest_Connection{Connection: id}}
}

func byRoom(name string) *roomcastv1.DisconnectRequest {
	return &roomcastv1.DisconnectRequest{Target: &roomcastv1.DisconnectRequest_Room{Room: name}}
}

func revokeUser(user string, at *timestamppb.Timestamp) *roomcastv1.RevokeTokensRequest {
	return &roomcastv1.RevokeTokensRequest{Target: &roomcastv1.RevokeTokensRequest_User{User: user}, IssuedBefore: at}
}

func revokeID(id string, at *timestamppb.Timestamp) *roomcastv1.RevokeTokensRequest {
	return &roomcastv1.RevokeTokensRequest{Target: &roomcastv1.RevokeTokensRequest_TokenId{TokenId: id}, IssuedBefore: at}
}

func TestConnectionCommands(t *testing.T) {
	t.Parallel()
	at := &timestamppb.Timestamp{Seconds: 1_700_000_000, Nanos: 1}
	tests := map[string]struct {
		req  any
		want string
	}{
		"disconnect user":       {byUser("ann", "Banned_1-a.b:c"), `disconnect user:"ann" word:"Banned_1-a.b:c"`},
		"disconnect connection": {byConnection("c1"), `disconnect connection:"c1"`},
		"disconnect room":       {byRoom("a"), `disconnect room:"a"`},
		"subscribe":             {&roomcastv1.SubscribeRequest{User: "ann", Room: "a"}, `subscribe user:"ann" room:"a"`},
		"unsubscribe":           {&roomcastv1.UnsubscribeRequest{User: "ann", Room: "a"}, `unsubscribe user:"ann" room:"a"`},
		"revoke user":           {revokeUser("ann", at), `revoke "ann" "" 1700000001`}, // the moment's second counts whole
		"revoke id":             {revokeID("t1", nil), `revoke "" "t1" 9223372036854775807`},
		"revoke id before":      {revokeID("t1", at), `revoke "" "t1" 1700000001`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			board := &switchboard{}
			ts := start(t, func(c *Config, _ *recorder) { c.Connections = board })
			n, resp, err := act(t.Context(), roomcastv1.NewConnectionServiceClient(ts.conn), test.req)
			if err != nil {
				t.Fatal(err)
			}
			if n != 1 || resp.GetComplete() || len(resp.GetMissingNodes()) != 1 {
				t.Errorf("answered %d, %v; want one socket, and that n2 is missing", n, resp)
			}
			if diff := cmp.Diff([]string{test.want}, board.called()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRevokeNow: without a moment it is now, so that what was issued in this second
// counts too.
func TestRevokeNow(t *testing.T) {
	t.Parallel()
	board := &switchboard{}
	ts := start(t, func(c *Config, _ *recorder) { c.Connections = board })
	before := time.Now().Unix()
	if _, err := roomcastv1.NewConnectionServiceClient(ts.conn).RevokeTokens(t.Context(), revokeUser("ann", nil)); err != nil {
		t.Fatal(err)
	}
	var got int64
	if _, err := fmt.Sscanf(board.called()[0], `revoke "ann" "" %d`, &got); err != nil {
		t.Fatal(err)
	}
	if got <= before || got > time.Now().Unix()+1 {
		t.Errorf("revoked before %d, want the second after %d", got, before)
	}
}

func TestConnectionRefusals(t *testing.T) {
	t.Parallel()
	invalid := func(reason room.Reason, field string) want {
		return want{code: codes.InvalidArgument, reason: reason, field: field}
	}
	long := strings.Repeat("x", 129)
	soon := timestamppb.New(time.Now().Add(time.Hour))
	tests := map[string]struct {
		req  any
		want want
	}{
		"no target":         {&roomcastv1.DisconnectRequest{}, invalid(room.ReasonInvalidRequest, "target")},
		"empty user":        {byUser("", ""), invalid(room.ReasonInvalidUser, "user")},
		"long user":         {byUser(long, ""), invalid(room.ReasonInvalidUser, "user")},
		"empty connection":  {byConnection(""), invalid(room.ReasonInvalidRequest, "connection")},
		"empty room":        {byRoom(""), invalid(room.ReasonInvalidRoom, "room")},
		"pattern":           {byRoom("a*"), invalid(room.ReasonInvalidRoom, "room")},
		"long word":         {byUser("ann", strings.Repeat("x", 65)), invalid(room.ReasonInvalidRequest, "reason")},
		"two words":         {byUser("ann", "a b"), invalid(room.ReasonInvalidRequest, "reason")},
		"assignment":        {byUser("ann", "retry_ms=1"), invalid(room.ReasonInvalidRequest, "reason")},
		"subscribe no user": {&roomcastv1.SubscribeRequest{Room: "a"}, invalid(room.ReasonInvalidUser, "user")},
		"subscribe no room": {&roomcastv1.SubscribeRequest{User: "ann"}, invalid(room.ReasonInvalidRoom, "room")},
		"unsubscribe":       {&roomcastv1.UnsubscribeRequest{User: "ann", Room: "_x"}, invalid(room.ReasonInvalidRoom, "room")},
		"revoke nothing":    {&roomcastv1.RevokeTokensRequest{}, invalid(room.ReasonInvalidRequest, "target")},
		"revoke nobody":     {revokeUser("", nil), invalid(room.ReasonInvalidUser, "user")},
		"revoke no id":      {revokeID("", nil), invalid(room.ReasonInvalidUser, "token_id")},
		"revoke long id":    {revokeID(long, nil), invalid(room.ReasonInvalidUser, "token_id")},
		"revoke tomorrow":   {revokeUser("ann", soon), invalid(room.ReasonInvalidRequest, "issued_before")},
		"revoke no time":    {revokeUser("ann", &timestamppb.Timestamp{Nanos: -1}), invalid(room.ReasonInvalidRequest, "issued_before")},
		"page size":         {&roomcastv1.ListConnectionsRequest{PageSize: -1}, invalid(room.ReasonInvalidPage, "page_size")},
		"page token":        {&roomcastv1.ListConnectionsRequest{PageToken: "x"}, invalid(room.ReasonInvalidPage, "page_token")},
		"foreign token":     {&roomcastv1.ListConnectionsRequest{PageToken: pageFields{"ListConnections", "ann", ""}.token("c1 ann")}, invalid(room.ReasonInvalidPage, "page_token")},
		"odd token":         {&roomcastv1.ListConnectionsRequest{PageToken: pageFields{"ListConnections", "", ""}.token("c1")}, invalid(room.ReasonInvalidPage, "page_token")},
		"list long user":    {&roomcastv1.ListConnectionsRequest{User: long, Room: "a"}, invalid(room.ReasonInvalidUser, "user")},
		"list odd room":     {&roomcastv1.ListConnectionsRequest{Room: "*"}, invalid(room.ReasonInvalidRoom, "room")},
	}
	board := &switchboard{}
	ts := start(t, func(c *Config, _ *recorder) { c.Connections = board })
	t.Run("group", func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				_, _, err := act(t.Context(), roomcastv1.NewConnectionServiceClient(ts.conn), test.req)
				test.want.check(t, status.Convert(err))
			})
		}
	})
	if called := board.called(); len(called) != 0 {
		t.Errorf("refused requests were acted on: %q", called)
	}
}

// TestConnectionRights: who may do what by its rooms.
func TestConnectionRights(t *testing.T) {
	t.Parallel()
	requests := map[string]any{
		"disconnect ann":      byUser("ann", ""),
		"disconnect c1":       byConnection("c1"),
		"disconnect chat:1":   byRoom("chat:1"),
		"subscribe chat:1":    &roomcastv1.SubscribeRequest{User: "ann", Room: "chat:1"},
		"unsubscribe chat:1":  &roomcastv1.UnsubscribeRequest{User: "ann", Room: "chat:1"},
		"revoke ann":          revokeUser("ann", nil),
		"revoke t1":           revokeID("t1", nil),
		"list all":            &roomcastv1.ListConnectionsRequest{},
		"list ann":            &roomcastv1.ListConnectionsRequest{User: "ann"},
		"list chat:1":         &roomcastv1.ListConnectionsRequest{Room: "chat:1"},
		"list ann and chat:1": &roomcastv1.ListConnectionsRequest{User: "ann", Room: "chat:1"},
	}
	inRoom := []string{"disconnect chat:1", "subscribe chat:1", "unsubscribe chat:1", "list chat:1", "list ann and chat:1"}
	ofAnn := []string{"disconnect ann", "revoke ann", "list ann"}
	everybody := append([]string{"disconnect c1", "revoke t1", "list all"}, ofAnn...)
	tests := map[string]struct {
		rpc, rooms []string
		allowed    []string
	}{
		"all":           {[]string{"connections"}, []string{"*"}, append(append([]string{}, inRoom...), everybody...)},
		"another rpc":   {[]string{"presence"}, []string{"*"}, nil},
		"no rooms":      {[]string{"connections"}, nil, nil},
		"the room":      {[]string{"connections"}, []string{"chat:1"}, inRoom},
		"its namespace": {[]string{"connections"}, []string{"chat:*"}, inRoom},
		"another room":  {[]string{"connections"}, []string{"chat:2"}, nil},
		"ann":           {[]string{"connections"}, []string{"user:ann"}, ofAnn},
		"bob":           {[]string{"connections"}, []string{"user:bob"}, nil},
		"some users":    {[]string{"connections"}, []string{"user:a*"}, ofAnn},
		"all users":     {[]string{"connections"}, []string{"user:*"}, everybody},
		"user: alone":   {[]string{"connections"}, []string{"user:"}, nil},
	}
	ts := start(t, func(c *Config, r *recorder) {
		production(c, r)
		c.Connections = &switchboard{}
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := auth.Claims{RPC: test.rpc, Rooms: map[string][]string{}}
			for _, pattern := range test.rooms {
				claims.Rooms[pattern] = []string{"subscribe"}
			}
			ctx := bearer(t, claims)
			got, want := map[string]codes.Code{}, map[string]codes.Code{}
			for name, req := range requests {
				_, _, err := act(ctx, roomcastv1.NewConnectionServiceClient(ts.conn), req)
				got[name], want[name] = status.Code(err), codes.PermissionDenied
			}
			for _, name := range test.allowed {
				want[name] = codes.OK
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("codes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestListConnections: the pages have every connection once, of whose rooms the caller
// sees its own.
func TestListConnections(t *testing.T) {
	t.Parallel()
	var all, want []*roomcastv1.Connection
	for i := range 7 {
		c := func(rooms ...string) *roomcastv1.Connection {
			return &roomcastv1.Connection{User: fmt.Sprint("u ", i/2), Connection: fmt.Sprint("c", i), Rooms: rooms}
		}
		all, want = append(all, c("a", "chat:1", "user:x")), append(want, c("user:x"))
	}
	ts := start(t, func(c *Config, r *recorder) {
		production(c, r)
		c.Connections = &switchboard{sockets: all}
	})
	ctx := bearer(t, auth.Claims{RPC: []string{"connections"}, Rooms: map[string][]string{"user:*": {"subscribe"}}})
	var got []*roomcastv1.Connection
	req := &roomcastv1.ListConnectionsRequest{PageSize: 3}
	for pages := 1; ; pages++ {
		resp, err := roomcastv1.NewConnectionServiceClient(ts.conn).ListConnections(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, resp.GetConnections()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

// TestRevokeUnavailable: what may not be kept is no success.
func TestRevokeUnavailable(t *testing.T) {
	t.Parallel()
	ts := start(t, func(c *Config, _ *recorder) {
		c.Connections = &switchboard{err: room.Errorf(room.Unavailable, room.ReasonBusUnavailable, "away")}
	})
	_, err := roomcastv1.NewConnectionServiceClient(ts.conn).RevokeTokens(t.Context(), revokeUser("ann", nil))
	want{code: codes.Unavailable, reason: room.ReasonBusUnavailable}.check(t, status.Convert(err))
}
