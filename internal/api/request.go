package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// accept validates a request, checks that the caller may publish in the room, and
// converts it into p. The publication shares the request's bytes. The room's right
// comes before the room's policy, so that a refused caller learns nothing of it.
func (s *publishService) accept(ctx context.Context, req *roomcastv1.PublishRequest, p *room.Publication) error {
	name, err := room.ParseName(req.GetRoom(), "room")
	if err != nil {
		return err
	}
	if err := mayRoom(ctx, auth.RPCPublish, name); err != nil {
		return err
	}
	ttl, err := parseTTL(req.GetTtl())
	if err != nil {
		return err
	}
	payload, err := wire.PublishPayload(req)
	if err != nil {
		return err
	}
	*p = room.Publication{
		Room:        name,
		Payload:     payload,
		Event:       req.GetEvent(),
		MessageID:   req.GetMessageId(),
		TTL:         ttl,
		ExcludeUser: req.GetExcludeUser(),
	}
	policy := s.policies.Of(name)
	return p.Check(policy)
}

// parseTTL reads a ttl; absent is 0. One of zero or less is refused here, because a
// publication's 0 means none; [room.Publication.Check] holds the lower bound.
func parseTTL(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil {
		return 0, room.Invalidf(room.ReasonInvalidTTL, "ttl", "is no valid duration")
	}
	if ttl := d.AsDuration(); ttl > 0 {
		return ttl, nil
	}
	return 0, room.Invalidf(room.ReasonInvalidTTL, "ttl", "is %s; it must be at least %s", d.AsDuration(), room.MinTTL)
}
