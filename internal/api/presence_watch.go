package api

import (
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/presence"
)

// watchBacklog is how many events a watch may be behind; beyond it the caller gets a
// snapshot instead.
const watchBacklog = 256

// WatchRoom streams who is in a room until the caller goes, the node drains, the stream
// has its age or the token ends.
func (s *presenceService) WatchRoom(
	req *roomcastv1.WatchRoomRequest, stream roomcastv1.PresenceService_WatchRoomServer,
) error {
	ctx := stream.Context()
	name, err := s.roomOf(ctx, req.GetRoom())
	if err != nil {
		return err
	}
	events := make(chan *presence.Event, watchBacklog)
	watch := s.presence.Watch(name, func(e *presence.Event) bool {
		select {
		case events <- e:
			return true
		default:
			return false
		}
	})
	defer watch.Stop()
	retire := time.NewTimer(streamAge(ctx))
	defer retire.Stop()
	for {
		select {
		case e := <-events:
			if err := stream.Send(watchEvent(e)); err != nil {
				return err
			}
		case <-s.draining.Done():
			return drains("watch again")
		case <-retire.C:
			return retired(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watchEvent is an event as callers see it.
func watchEvent(e *presence.Event) *roomcastv1.WatchRoomResponse {
	switch e.Kind {
	case presence.Join:
		return &roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Join{Join: presence.MemberProto(e.Member)}}
	case presence.Leave:
		return &roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Leave_{Leave: &roomcastv1.WatchRoomResponse_Leave{
			Member: presence.MemberProto(e.Member), Reason: string(e.Reason),
		}}}
	case presence.Snapshot, presence.Occupancy: // the latter is for those who listen briefly
	}
	return &roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Snapshot_{Snapshot: &roomcastv1.WatchRoomResponse_Snapshot{
		Members: memberProtos(e.Members), Complete: e.Complete, MissingNodes: e.Missing,
	}}}
}
