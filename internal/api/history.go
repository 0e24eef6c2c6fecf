package api

import (
	"context"
	"log/slog"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// Log reads and purges what rooms have stored. Its errors are [*room.Error]s or a
// context's.
type Log interface {
	// Read returns the entries after a position in order, at most limit; the zero
	// position is before the oldest. Page.Gap says if the log does not prove that
	// nothing is missing in between.
	Read(ctx context.Context, name room.Name, after room.Position, limit int) (room.Page, error)

	// ReadBack returns the entries before a position, newest first, at most limit; the
	// zero position is after the newest. Page.Gap says if the position is of another log.
	ReadBack(ctx context.Context, name room.Name, before room.Position, limit int) (room.Page, error)

	// Purge removes what a room has stored so far and tells its subscribers. It returns
	// how many messages that were.
	Purge(ctx context.Context, name room.Name) (removed uint64, err error)
}

// historyService is roomcast.v1.HistoryService.
type historyService struct {
	roomcastv1.UnimplementedHistoryServiceServer

	policies *room.Policies
	log      Log
	rooms    Rooms
	logger   *slog.Logger
	draining context.Context //nolint:containedctx // a signal: done when the server drains
}

// ListMessages answers one page of a room's history. A page may be short or empty: it
// ends early at maxPageBytes, and expired messages are left out.
func (s *historyService) ListMessages(
	ctx context.Context, req *roomcastv1.ListMessagesRequest,
) (*roomcastv1.ListMessagesResponse, error) {
	name, err := historyOf(ctx, req.GetRoom())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	start, err := pageStart(req)
	if err != nil {
		return nil, err
	}
	if err := s.stored(name); err != nil {
		return nil, err
	}
	read, lost := s.log.Read, "messages after this position may be missing (%s); list without `after` to begin at the oldest"
	if req.GetNewestFirst() {
		read, lost = s.log.ReadBack, "this position is of another log (%s); list without `before` to begin at the newest"
	}
	page, err := read(ctx, name, start, size)
	if err != nil {
		return nil, err
	}
	if page.Gap != "" && !start.IsZero() {
		return nil, room.Errorf(room.OutOfRange, room.ReasonPositionLost, lost, page.Gap)
	}
	messages, last := cutPage(page, req.GetRaw(), time.Now())
	resp := &roomcastv1.ListMessagesResponse{Messages: messages}
	if !last.IsZero() {
		resp.NextPageToken = messagePage(req).token(last.String())
	}
	return resp, nil
}

// PurgeRoom removes what a room has stored so far. Who may read a room's history may
// purge it: a control caller with the right stands for the room's owner.
func (s *historyService) PurgeRoom(
	ctx context.Context, req *roomcastv1.PurgeRoomRequest,
) (*roomcastv1.PurgeRoomResponse, error) {
	name, err := historyOf(ctx, req.GetRoom())
	if err != nil {
		return nil, err
	}
	if err := s.stored(name); err != nil {
		return nil, err
	}
	removed, err := s.log.Purge(ctx, name)
	if err != nil {
		return nil, err
	}
	s.logger.LogAttrs(ctx, slog.LevelInfo, "room purged",
		slog.String("room", string(name)), slog.Any("by", callerOf(ctx)), slog.Uint64("messages", removed))
	return &roomcastv1.PurgeRoomResponse{Purged: uint32(min(removed, math.MaxUint32))}, nil
}

// historyOf reads the room of a request and checks that the caller may have to do with
// its history.
func historyOf(ctx context.Context, text string) (room.Name, error) {
	name, err := room.ParseName(text, "room")
	if err != nil {
		return "", err
	}
	return name, mayRoom(ctx, auth.RPCHistory, name)
}

// stored refuses a room that has no history.
func (s *historyService) stored(name room.Name) error {
	if policy := s.policies.Of(name); !policy.Stored() {
		return room.Errorf(room.Precondition, room.ReasonNoHistory,
			"rooms of namespace %q are ephemeral; they have no history", policy.Namespace)
	}
	return nil
}

// pageStart returns the position that the page begins after, or with newest_first
// before; zero is the whole history.
func pageStart(req *roomcastv1.ListMessagesRequest) (room.Position, error) {
	start, field, other := req.GetAfter(), "after", req.GetBefore()
	if req.GetNewestFirst() {
		start, field, other = req.GetBefore(), "before", req.GetAfter()
	}
	switch {
	case other != "" && req.GetNewestFirst():
		return room.Position{}, room.Invalidf(room.ReasonInvalidPage, "after", "does not go with newest_first; use before")
	case other != "":
		return room.Position{}, room.Invalidf(room.ReasonInvalidPage, "before", "goes with newest_first; use after")
	case req.GetPageToken() != "":
		return parseMessagePage(req)
	case start == "":
		return room.Position{}, nil
	}
	return room.ParsePosition(start, field)
}

// messagePage is what decides which messages are listed and how.
func messagePage(req *roomcastv1.ListMessagesRequest) pageFields {
	return pageFields{"ListMessages", req.GetRoom(), req.GetAfter(), req.GetRaw(), req.GetNewestFirst(), req.GetBefore()}
}

// parseMessagePage returns the position in a request's token.
func parseMessagePage(req *roomcastv1.ListMessagesRequest) (room.Position, error) {
	text, err := messagePage(req).parse(req.GetPageToken())
	if err != nil {
		return room.Position{}, err
	}
	last, err := room.ParsePosition(text, "page_token")
	if err != nil {
		return room.Position{}, foreignPage()
	}
	return last, nil
}

// cutPage converts the messages that fit, without the expired ones, and returns the
// position that the next page goes on from; zero if there is none.
func cutPage(page room.Page, raw bool, now time.Time) ([]*roomcastv1.Message, room.Position) {
	var messages []*roomcastv1.Message
	var last room.Position
	total := 0
	for _, m := range page.Messages {
		if !m.Expired(now) {
			message := wire.MessageProto(m, raw)
			total += proto.Size(message)
			if total > maxPageBytes && len(messages) > 0 {
				return messages, last
			}
			messages = append(messages, message)
		}
		last = m.Position
	}
	if page.More {
		return messages, page.Last
	}
	return messages, room.Position{}
}
