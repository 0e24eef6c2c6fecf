package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// Member is one socket in a room.
type Member struct {
	User       string    `json:"user"`
	Connection string    `json:"connection"` // unique in the cluster
	Node       string    `json:"node"`       // that holds the socket
	Since      time.Time `json:"since"`      // when it subscribed
}

// Members is who is in a room.
type Members struct {
	Members []Member `json:"members"`
	// Complete is false if a live node did not answer; its members are not listed.
	Complete     bool     `json:"complete"`
	MissingNodes []string `json:"missingNodes,omitempty"`
}

// PresenceEvent is one event of a watched room; exactly one field is set.
type PresenceEvent struct {
	Snapshot *Members `json:"snapshot,omitempty"` // all members: first, and whenever the watcher fell behind
	Join     *Member  `json:"join,omitempty"`
	Leave    *Leave   `json:"leave,omitempty"`
}

// Leave is a member that went.
type Leave struct {
	Member Member `json:"member"`
	Reason string `json:"reason"` // UNSUBSCRIBED, CLOSED or NODE_LOST
}

// Presence asks who is where, over one gRPC connection. It is safe for concurrent use.
type Presence struct {
	conn    *grpc.ClientConn
	service roomcastv1.PresenceServiceClient
}

// DialPresence is [Dial] for presence.
func DialPresence(addr string, opts ...Option) (*Presence, error) {
	conn, _, err := connect(addr, opts)
	if err != nil {
		return nil, err
	}
	return &Presence{conn: conn, service: roomcastv1.NewPresenceServiceClient(conn)}, nil
}

// Close closes the connection. Watches end with an error.
func (p *Presence) Close() error {
	if err := p.conn.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// presencePage is how many members are asked for at a time: the most there are.
const presencePage = 1000

// Members lists who is in a room, sorted by user and connection. The error is or wraps an
// [*Error].
func (p *Presence) Members(ctx context.Context, room string) (Members, error) {
	all := Members{Members: []Member{}, Complete: true}
	req := &roomcastv1.ListMembersRequest{Room: room, PageSize: presencePage}
	for {
		resp, err := p.service.ListMembers(ctx, req)
		if err != nil {
			return Members{}, rpcError(err)
		}
		all.Members = append(all.Members, membersOf(resp.GetMembers())...)
		if !resp.GetComplete() {
			all.Complete, all.MissingNodes = false, resp.GetMissingNodes()
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// Watch calls told with what happens in a room, a snapshot first, until ctx ends, told
// returns an error, or the server ends it, as it does while it drains: then watch again.
// The error is never nil; a refusal is or wraps an [*Error].
func (p *Presence) Watch(ctx context.Context, room string, told func(PresenceEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.service.WatchRoom(ctx, &roomcastv1.WatchRoomRequest{Room: room})
	if err != nil {
		return rpcError(err)
	}
	parts := []Member{} // of a snapshot that has not come whole
	for {
		resp, err := stream.Recv()
		if err != nil {
			return rpcError(err)
		}
		e := presenceEvent(resp)
		if e.Snapshot != nil {
			parts = append(parts, e.Snapshot.Members...)
			if resp.GetSnapshot().GetMore() {
				continue
			}
			e.Snapshot.Members, parts = parts, []Member{}
		}
		if err := told(e); err != nil {
			return err
		}
	}
}

func presenceEvent(resp *roomcastv1.WatchRoomResponse) PresenceEvent {
	switch e := resp.GetEvent().(type) {
	case *roomcastv1.WatchRoomResponse_Join:
		m := memberOf(e.Join)
		return PresenceEvent{Join: &m}
	case *roomcastv1.WatchRoomResponse_Leave_:
		return PresenceEvent{Leave: &Leave{Member: memberOf(e.Leave.GetMember()), Reason: e.Leave.GetReason()}}
	}
	s := resp.GetSnapshot()
	return PresenceEvent{Snapshot: &Members{
		Members: membersOf(s.GetMembers()), Complete: s.GetComplete(), MissingNodes: s.GetMissingNodes(),
	}}
}

func membersOf(list []*roomcastv1.Member) []Member {
	members := make([]Member, 0, len(list))
	for _, m := range list {
		members = append(members, memberOf(m))
	}
	return members
}

func memberOf(m *roomcastv1.Member) Member {
	return Member{User: m.GetUser(), Connection: m.GetConnection(), Node: m.GetNode(), Since: m.GetSince().AsTime()}
}
