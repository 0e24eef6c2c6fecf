package api

import (
	"context"
	"strings"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// presenceService is roomcast.v1.PresenceService.
type presenceService struct {
	roomcastv1.UnimplementedPresenceServiceServer

	presence    *presence.Presence
	connections Connections
	draining    context.Context //nolint:containedctx // a signal: done when the server drains
}

// roomOf reads the room of a request and checks that the caller may see who is in it.
func (s *presenceService) roomOf(ctx context.Context, text string) (room.Name, error) {
	name, err := room.ParseName(text, "room")
	if err != nil {
		return "", err
	}
	if err := mayRoom(ctx, auth.RPCPresence, name); err != nil {
		return "", err
	}
	if !s.presence.Listed(name) {
		return "", room.Errorf(room.Precondition, room.ReasonNoPresence, "the room's namespace has no presence")
	}
	return name, nil
}

// GetRoom counts a room.
func (s *presenceService) GetRoom(ctx context.Context, req *roomcastv1.GetRoomRequest) (*roomcastv1.GetRoomResponse, error) {
	name, err := s.roomOf(ctx, req.GetRoom())
	if err != nil {
		return nil, err
	}
	c := s.presence.Count(ctx, name)
	return &roomcastv1.GetRoomResponse{
		Connections: uint32(c.Connections), Users: uint32(c.Users), //nolint:gosec // counts
		Complete: c.Complete, MissingNodes: c.Missing,
	}, nil
}

// keySeparator parts user and connection in a page token; neither can contain it.
const keySeparator = "\x00"

// ListMembers answers one page of a room's members.
func (s *presenceService) ListMembers(
	ctx context.Context, req *roomcastv1.ListMembersRequest,
) (*roomcastv1.ListMembersResponse, error) {
	name, err := s.roomOf(ctx, req.GetRoom())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	fields := pageFields{"ListMembers", req.GetRoom()}
	var after room.Member
	if token := req.GetPageToken(); token != "" {
		last, err := fields.parse(token)
		if err != nil {
			return nil, err
		}
		var found bool
		if after.User, after.Connection, found = strings.Cut(last, keySeparator); !found {
			return nil, foreignPage()
		}
	}
	page := s.presence.Members(ctx, name, after, size)
	resp := &roomcastv1.ListMembersResponse{
		Members: memberProtos(page.Members), Complete: page.Complete, MissingNodes: page.Missing,
	}
	if page.More {
		last := page.Members[len(page.Members)-1]
		resp.NextPageToken = fields.token(last.User + keySeparator + last.Connection)
	}
	return resp, nil
}

func memberProtos(members []room.Member) []*roomcastv1.Member {
	list := make([]*roomcastv1.Member, 0, len(members))
	for _, m := range members {
		list = append(list, presence.MemberProto(m))
	}
	return list
}

// ListRooms answers one page of the rooms that the caller may see.
func (s *presenceService) ListRooms(
	ctx context.Context, req *roomcastv1.ListRoomsRequest,
) (*roomcastv1.ListRoomsResponse, error) {
	if req.GetPrefix() != "" {
		if _, err := room.ParseName(req.GetPrefix(), "prefix"); err != nil {
			return nil, err
		}
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	fields := pageFields{"ListRooms", req.GetPrefix()}
	q := presence.RoomsQuery{Prefix: req.GetPrefix(), Patterns: callerOf(ctx).Patterns(), Limit: size}
	if token := req.GetPageToken(); token != "" {
		last, err := fields.parse(token)
		if err != nil {
			return nil, err
		}
		q.After = room.Name(last)
	}
	page := s.presence.Rooms(ctx, q)
	resp := &roomcastv1.ListRoomsResponse{Complete: page.Complete, MissingNodes: page.Missing}
	for _, r := range page.Rooms {
		resp.Rooms = append(resp.Rooms, &roomcastv1.RoomCount{
			Room: string(r.Name), Connections: uint32(r.Connections), Users: uint32(r.Users), //nolint:gosec // counts
		})
	}
	if page.More {
		resp.NextPageToken = fields.token(string(page.Last))
	}
	return resp, nil
}

// maxUserConnections is how many connections GetUser tells at most.
const maxUserConnections = 10_000

// GetUser tells a user's connections, with those of their rooms that the caller may see.
func (s *presenceService) GetUser(ctx context.Context, req *roomcastv1.GetUserRequest) (*roomcastv1.GetUserResponse, error) {
	if req.GetUser() == "" {
		return nil, room.Invalidf(room.ReasonInvalidUser, "user", "is empty")
	}
	if err := room.CheckUser(req.GetUser(), "user"); err != nil {
		return nil, err
	}
	q := &busv1.ConnectionQuery{User: req.GetUser(), Limit: maxUserConnections}
	list, more, who := s.connections.List(ctx, q)
	resp := &roomcastv1.GetUserResponse{Complete: who.Complete, MissingNodes: who.Missing, More: more}
	caller := callerOf(ctx)
	whole := caller.MayCallRoom(auth.RPCPresence, room.UserPrefix+room.Name(req.GetUser()))
	for _, socket := range list {
		c := &roomcastv1.UserConnection{
			Connection: socket.GetConnection(), Node: socket.GetNode(), Connected: socket.GetConnected(),
		}
		for _, text := range socket.GetRooms() {
			if name := room.Name(text); caller.MayCallRoom(auth.RPCPresence, name) && s.presence.Listed(name) {
				c.Rooms = append(c.Rooms, text)
			}
		}
		if whole || len(c.Rooms) > 0 {
			resp.Connections = append(resp.Connections, c)
		}
	}
	return resp, nil
}
