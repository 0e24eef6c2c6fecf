package api

import (
	"sync"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/presence"
)

// watchBacklog is how many events a watch may be behind: enough for a node to be lost with
// all it had in a room. Beyond it the caller gets a snapshot instead.
const watchBacklog = 1 << 16

// backlog is the events that a watch has still to send. They are shared by all watches.
type backlog struct {
	news chan struct{} // has one: there are events

	mu     sync.Mutex
	events []*presence.Event // guarded by mu
}

// add takes an event, unless there are too many.
func (b *backlog) add(e *presence.Event) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) >= watchBacklog {
		return false
	}
	b.events = append(b.events, e)
	signal(b.news)
	return true
}

// take returns what there is.
func (b *backlog) take() []*presence.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = nil
	return events
}

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
	waiting := &backlog{news: make(chan struct{}, 1)}
	watch := s.presence.Watch(name, waiting.add)
	defer watch.Stop()
	retire := time.NewTimer(streamAge(ctx))
	defer retire.Stop()
	for {
		select {
		case <-waiting.news:
			for _, e := range waiting.take() {
				if err := stream.Send(watchEvent(e)); err != nil {
					return err
				}
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
