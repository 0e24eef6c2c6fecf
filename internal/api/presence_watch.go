package api

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/presence"
)

// watchBacklog is how many events a watch may be behind: enough for a node to be lost with
// all it had in a room. Beyond it the caller gets a snapshot instead.
const watchBacklog = 1 << 16

// snapshotPart is about how many bytes of members one response has: clients refuse more
// than 4 MiB unless they are told otherwise.
const snapshotPart = 1 << 20

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
				if err := sendEvent(e, stream.Send); err != nil {
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

// sendEvent sends an event as callers see it.
func sendEvent(e *presence.Event, send func(*roomcastv1.WatchRoomResponse) error) error {
	switch e.Kind {
	case presence.Join:
		return send(&roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Join{Join: presence.MemberProto(e.Member)}})
	case presence.Leave:
		return send(&roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Leave_{Leave: &roomcastv1.WatchRoomResponse_Leave{
			Member: presence.MemberProto(e.Member), Reason: string(e.Reason),
		}}})
	case presence.Snapshot, presence.Occupancy: // the latter is for those who listen briefly
	}
	return sendSnapshot(e, send)
}

// sendSnapshot sends a snapshot in parts that every gRPC client takes.
func sendSnapshot(e *presence.Event, send func(*roomcastv1.WatchRoomResponse) error) error {
	part, size := &roomcastv1.WatchRoomResponse_Snapshot{}, 0
	for _, m := range e.Members {
		if size >= snapshotPart {
			part.More = true
			if err := send(&roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Snapshot_{Snapshot: part}}); err != nil {
				return err
			}
			part, size = &roomcastv1.WatchRoomResponse_Snapshot{}, 0
		}
		member := presence.MemberProto(m)
		part.Members = append(part.Members, member)
		size += proto.Size(member)
	}
	part.Complete, part.MissingNodes = e.Complete, e.Missing
	return send(&roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Snapshot_{Snapshot: part}})
}
