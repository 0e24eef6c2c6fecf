package api

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// metaPosition is the header metadata that says where a watch begins.
const metaPosition = "roomcast-position"

// watchFrames is how many messages a watch takes from its room at a time.
const watchFrames = 64

// Rooms are this node's rooms: the hub.
type Rooms interface {
	// Join makes a cursor after a position, before the time by; the zero position means
	// from now on. The caller must Start it and Leave.
	Join(
		ctx context.Context, by time.Time, name room.Name, after room.Position, sub hub.Subscriber,
	) (*hub.Cursor, room.Position, error)
}

// WatchMessages streams a room until the caller goes, the node drains, the stream has
// its age or the token ends.
func (s *historyService) WatchMessages(
	req *roomcastv1.WatchMessagesRequest, stream roomcastv1.HistoryService_WatchMessagesServer,
) error {
	ctx := stream.Context()
	name, err := historyOf(ctx, req.GetRoom())
	if err != nil {
		return err
	}
	var after room.Position
	if req.GetAfter() != "" {
		if after, err = room.ParsePosition(req.GetAfter(), "after"); err != nil {
			return err
		}
	}
	w := newWatcher(stream, req.GetRaw())
	cursor, position, err := s.rooms.Join(ctx, time.Now().Add(defaultDeadline), name, after, w)
	if err != nil {
		return err
	}
	defer cursor.Leave()
	if err := stream.SendHeader(metadata.Pairs(metaPosition, position.String())); err != nil {
		return err
	}
	cursor.Start()
	return w.run(ctx, s.draining)
}

// watcher is one WatchMessages call: a subscriber with one cursor, and a lane of its
// own, which is the handler's goroutine. Like a socket it holds no messages: while the
// caller does not take what was sent, its cursor falls behind.
type watcher struct {
	// static
	stream roomcastv1.HistoryService_WatchMessagesServer
	raw    bool
	lane   *hub.Lane
	news   chan *hub.Part   // has one: the part is queued, which it is once at a time
	turns  chan *hub.Cursor // has one: the cursor wants a turn of its own

	err error // why nothing more can be sent; owned by run
}

func newWatcher(stream roomcastv1.HistoryService_WatchMessagesServer, raw bool) *watcher {
	w := &watcher{stream: stream, raw: raw, news: make(chan *hub.Part, 1), turns: make(chan *hub.Cursor, 1)}
	w.lane = hub.NewLane(w.wake)
	return w
}

// wake queues the part. The hub calls it with the room's lock held.
func (w *watcher) wake(p *hub.Part) {
	select {
	case w.news <- p:
	default: // it is queued
	}
}

// run gives the cursor what it is behind by, for as long as the watch lasts.
func (w *watcher) run(ctx, draining context.Context) error {
	retire := time.NewTimer(streamAge(ctx))
	defer retire.Stop()
	for w.err == nil {
		select {
		case p := <-w.news:
			if w.lane.Walk(p, time.Now()) {
				w.wake(p)
			}
		case c := <-w.turns:
			switch w.lane.Serve(c, watchFrames, time.Now()) {
			case hub.More:
				w.Behind(c)
			case hub.TooSlow:
				return room.Errorf(room.Exhausted, room.ReasonTooSlow,
					"the caller does not keep up with the room; watch again after the last position")
			case hub.Current, hub.Waiting, hub.Full:
			}
		case <-draining.Done():
			return drains("watch again after the last position")
		case <-retire.C:
			return retired(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return w.err
}

// User is nobody: a control caller sees what the room has.
func (w *watcher) User() string { return "" }

// Connection is none: who watches is no member of the room.
func (w *watcher) Connection() string { return "" }

// Format is the one that is read back.
func (w *watcher) Format() wire.Format { return wire.Protobuf }

// Lane is the handler's goroutine.
func (w *watcher) Lane() *hub.Lane { return w.lane }

// Behind notes that the cursor wants a turn.
func (w *watcher) Behind(c *hub.Cursor) {
	select {
	case w.turns <- c:
	default: // it has one coming
	}
}

// Deliver sends frames as events. It blocks while the caller does not take them.
func (w *watcher) Deliver(_ *hub.Cursor, frames [][]byte) int {
	for i, frame := range frames {
		event, err := w.event(frame)
		if err == nil {
			err = w.stream.Send(event)
		}
		if err != nil {
			w.err = err
			return i
		}
	}
	return len(frames)
}

// event makes an event of a socket's frame.
func (w *watcher) event(frame []byte) (*roomcastv1.WatchMessagesResponse, error) {
	f, err := wire.ReadServerFrame(frame)
	if err != nil {
		return nil, err
	}
	if gap := f.GetGap(); gap != nil {
		return &roomcastv1.WatchMessagesResponse{Event: &roomcastv1.WatchMessagesResponse_Gap{Gap: gap}}, nil
	}
	message := f.GetMessage()
	if !w.raw {
		wire.ForPeople(message)
	}
	return &roomcastv1.WatchMessagesResponse{Event: &roomcastv1.WatchMessagesResponse_Message{Message: message}}, nil
}
