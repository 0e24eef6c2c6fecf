package api

import (
	"context"
	"log/slog"
	"strings"
	"time"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/room"
)

// maxWordLen bounds the word of a Disconnect, in bytes.
const maxWordLen = 64

// Connections acts on the sockets of all nodes. Counts are of sockets; the attendance
// says which live nodes they do not cover.
type Connections interface {
	// List returns a page, sorted by user and connection. A page may be short; more says
	// that others follow.
	List(ctx context.Context, q *busv1.ConnectionQuery) (page []*roomcastv1.Connection, more bool, who bus.Attendance)
	// Disconnect closes the sockets of a user, a connection or a room.
	Disconnect(ctx context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance)
	// Subscribe subscribes a user's sockets to a room.
	Subscribe(ctx context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance)
	// Unsubscribe takes a user's sockets out of a room.
	Unsubscribe(ctx context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance)
	// Revoke refuses tokens from now on and closes their sockets. Errors are
	// [*room.Error]s of kind Unavailable.
	Revoke(ctx context.Context, r room.Revocation) (uint32, bus.Attendance, error)
}

// connectionService is roomcast.v1.ConnectionService.
//
// A caller is bounded by its rooms here too. A user stands for its personal room,
// user:<id>: who has "user:*" among its rooms may act on every user.
type connectionService struct {
	roomcastv1.UnimplementedConnectionServiceServer

	connections Connections
	logger      *slog.Logger
}

// ListConnections answers one page. Of each connection's rooms a caller sees its own.
func (s *connectionService) ListConnections(
	ctx context.Context, req *roomcastv1.ListConnectionsRequest,
) (*roomcastv1.ListConnectionsResponse, error) {
	q := &busv1.ConnectionQuery{User: req.GetUser(), Room: req.GetRoom()}
	if err := mayList(ctx, q); err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	q.Limit = uint32(size) //nolint:gosec // maxPageSize at most
	fields := pageFields{"ListConnections", req.GetUser(), req.GetRoom()}
	if req.GetPageToken() != "" {
		last, err := fields.parse(req.GetPageToken())
		if err != nil {
			return nil, err
		}
		var whole bool
		if q.AfterConnection, q.AfterUser, whole = strings.Cut(last, " "); !whole {
			return nil, foreignPage()
		}
	}
	page, more, who := s.connections.List(ctx, q)
	resp := &roomcastv1.ListConnectionsResponse{Connections: page, Complete: who.Complete, MissingNodes: who.Missing}
	if more && len(page) > 0 {
		last := page[len(page)-1]
		resp.NextPageToken = fields.token(last.GetConnection() + " " + last.GetUser())
	}
	caller := callerOf(ctx)
	for _, c := range page {
		allowed := c.GetRooms()[:0]
		for _, name := range c.GetRooms() {
			if caller.MayCallRoom(auth.RPCConnections, room.Name(name)) {
				allowed = append(allowed, name)
			}
		}
		c.Rooms = allowed
	}
	return resp, nil
}

// mayList checks what is to be listed. Who may act on a room sees whoever is in it.
func mayList(ctx context.Context, q *busv1.ConnectionQuery) error {
	switch {
	case q.GetUser() == "" && q.GetRoom() == "":
		return mayAllUsers(ctx)
	case q.GetRoom() == "":
		return mayUser(ctx, q.GetUser(), "user")
	}
	if err := room.CheckUser(q.GetUser(), "user"); err != nil {
		return err
	}
	return mayConnectionRoom(ctx, q.GetRoom())
}

// Disconnect closes sockets.
func (s *connectionService) Disconnect(
	ctx context.Context, req *roomcastv1.DisconnectRequest,
) (*roomcastv1.DisconnectResponse, error) {
	cmd := &busv1.ConnectionCommand{
		User: req.GetUser(), Connection: req.GetConnection(), Room: req.GetRoom(), Word: req.GetReason(),
	}
	var err error
	switch req.GetTarget().(type) {
	case *roomcastv1.DisconnectRequest_User:
		err = mayUser(ctx, cmd.GetUser(), "user")
	case *roomcastv1.DisconnectRequest_Connection:
		if err = mayAllUsers(ctx); err == nil && cmd.GetConnection() == "" {
			err = room.Invalidf(room.ReasonInvalidRequest, "connection", "is empty")
		}
	case *roomcastv1.DisconnectRequest_Room:
		err = mayConnectionRoom(ctx, cmd.GetRoom())
	default:
		err = room.Invalidf(room.ReasonInvalidRequest, "target", "is missing; set user, connection or room")
	}
	if err == nil {
		err = checkWord(cmd.GetWord())
	}
	if err != nil {
		return nil, err
	}
	closed, who := s.connections.Disconnect(ctx, cmd)
	s.logger.LogAttrs(ctx, slog.LevelInfo, "disconnected", slog.Any("by", callerOf(ctx)), slog.String("of_user", cmd.GetUser()),
		slog.String("of_connection", cmd.GetConnection()), slog.String("room", cmd.GetRoom()),
		slog.String("word", cmd.GetWord()), slog.Any("sockets", closed))
	return &roomcastv1.DisconnectResponse{Disconnected: closed, Complete: who.Complete, MissingNodes: who.Missing}, nil
}

// checkWord checks what is to stand in a close frame behind DISCONNECTED: one word, so
// that no client can take it for something else.
func checkWord(word string) error {
	if len(word) > maxWordLen {
		return room.Invalidf(room.ReasonInvalidRequest, "reason", "has %d bytes; the limit is %d", len(word), maxWordLen)
	}
	for _, c := range word {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.', c == ':':
		default:
			return room.Invalidf(room.ReasonInvalidRequest, "reason", "contains %q; it is one word of letters, digits and _-.:", c)
		}
	}
	return nil
}

// Subscribe subscribes a user's open sockets to a room.
func (s *connectionService) Subscribe(
	ctx context.Context, req *roomcastv1.SubscribeRequest,
) (*roomcastv1.SubscribeResponse, error) {
	cmd, err := memberCommand(ctx, req.GetUser(), req.GetRoom())
	if err != nil {
		return nil, err
	}
	n, who := s.connections.Subscribe(ctx, cmd)
	return &roomcastv1.SubscribeResponse{Connections: n, Complete: who.Complete, MissingNodes: who.Missing}, nil
}

// Unsubscribe takes a user's open sockets out of a room.
func (s *connectionService) Unsubscribe(
	ctx context.Context, req *roomcastv1.UnsubscribeRequest,
) (*roomcastv1.UnsubscribeResponse, error) {
	cmd, err := memberCommand(ctx, req.GetUser(), req.GetRoom())
	if err != nil {
		return nil, err
	}
	n, who := s.connections.Unsubscribe(ctx, cmd)
	return &roomcastv1.UnsubscribeResponse{Connections: n, Complete: who.Complete, MissingNodes: who.Missing}, nil
}

// memberCommand checks user and room. The room decides: whom a room's owner lets in is
// the owner's affair.
func memberCommand(ctx context.Context, user, name string) (*busv1.ConnectionCommand, error) {
	if err := mayConnectionRoom(ctx, name); err != nil {
		return nil, err
	}
	if err := checkTarget(user, "user"); err != nil {
		return nil, err
	}
	return &busv1.ConnectionCommand{User: user, Room: name}, nil
}

// RevokeTokens refuses tokens from now on and closes their sockets.
func (s *connectionService) RevokeTokens(
	ctx context.Context, req *roomcastv1.RevokeTokensRequest,
) (*roomcastv1.RevokeTokensResponse, error) {
	now := time.Now()
	r := room.Revocation{User: req.GetUser(), TokenID: req.GetTokenId(), Before: room.BeforeTime(now)}
	var err error
	switch req.GetTarget().(type) {
	case *roomcastv1.RevokeTokensRequest_User:
		err = mayUser(ctx, r.User, "user")
	case *roomcastv1.RevokeTokensRequest_TokenId:
		r.Before = room.AnyTime
		if err = mayAllUsers(ctx); err == nil {
			err = checkTarget(r.TokenID, "token_id")
		}
	default:
		err = room.Invalidf(room.ReasonInvalidRequest, "target", "is missing; set user or token_id")
	}
	if err != nil {
		return nil, err
	}
	if at := req.GetIssuedBefore(); at != nil {
		if at.CheckValid() != nil || at.AsTime().After(now.Add(auth.Leeway)) {
			return nil, room.Invalidf(room.ReasonInvalidRequest, "issued_before",
				"is no time up to %s from now; it would refuse tokens that are made later", auth.Leeway)
		}
		r.Before = room.BeforeTime(at.AsTime())
	}
	closed, who, err := s.connections.Revoke(ctx, r)
	if err != nil {
		return nil, err
	}
	s.logger.LogAttrs(ctx, slog.LevelInfo, "tokens revoked", slog.Any("by", callerOf(ctx)), slog.String("of_user", r.User),
		slog.String("revoked_id", r.TokenID), slog.Any("sockets", closed))
	return &roomcastv1.RevokeTokensResponse{Disconnected: closed, Complete: who.Complete, MissingNodes: who.Missing}, nil
}

// mayConnectionRoom reads the room of a request and checks that the caller may act on it.
func mayConnectionRoom(ctx context.Context, text string) error {
	name, err := room.ParseName(text, "room")
	if err != nil {
		return err
	}
	return mayRoom(ctx, auth.RPCConnections, name)
}

// mayUser checks a user, and refuses one whose personal room the caller's grants do not
// cover.
func mayUser(ctx context.Context, user, field string) error {
	if err := checkTarget(user, field); err != nil {
		return err
	}
	if caller := callerOf(ctx); caller != nil && caller.MayCallRoom(auth.RPCConnections, room.UserPrefix+room.Name(user)) {
		return nil
	}
	return room.Errorf(room.Denied, room.ReasonForbidden, "the caller may not act on this user; its rooms would have to have user:<id>")
}

// mayAllUsers refuses a caller whose grants do not cover everybody's personal room.
func mayAllUsers(ctx context.Context) error {
	if caller := callerOf(ctx); caller != nil && caller.MayCallAll(auth.RPCConnections, room.UserPrefix) {
		return nil
	}
	return room.Errorf(room.Denied, room.ReasonForbidden, "the caller may not act on all users; its rooms would have to have user:*")
}

// checkTarget checks a user or a token id, which may not be empty.
func checkTarget(text, field string) error {
	if text == "" {
		return room.Invalidf(room.ReasonInvalidUser, field, "is empty")
	}
	return room.CheckUser(text, field)
}
