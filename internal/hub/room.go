package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// waitRetry is when to try again to join a room that could not be opened.
const waitRetry = time.Second

// Subscriber is who owns cursors: a socket.
type Subscriber interface {
	// Behind says that a cursor has news. It is called once until a Take has found
	// the cursor current, with the room's lock held: it must not block and not call
	// back.
	Behind(c *Cursor)
	// User is whose socket it is, for exclude_user.
	User() string
}

// Room is one room of this node. The bus tells it what happens, from one goroutine.
type Room struct {
	// static
	Name   room.Name
	Policy room.Policy
	cfg    Config
	opened chan struct{} // closed once the room's place in the log is known

	holds int // guarded by Hub.mu

	mu      sync.Mutex
	open    bool
	ended   bool
	stop    func()
	head    room.Position
	ring    ring
	cursors map[*Cursor]struct{}
}

func newRoom(name room.Name, cfg Config) *Room {
	return &Room{
		Name:    name,
		Policy:  cfg.Policies.Of(name),
		cfg:     cfg,
		opened:  make(chan struct{}),
		ring:    ring{maxMessages: cfg.RingMessages, maxBytes: cfg.RingBytes},
		cursors: make(map[*Cursor]struct{}),
	}
}

// setStop keeps how to end the source's interest. A room that has ended meanwhile
// ends it at once.
func (r *Room) setStop(stop func()) {
	r.mu.Lock()
	r.stop = stop
	ended := r.ended
	r.mu.Unlock()
	if ended {
		stop()
	}
}

// end tells the source that nobody listens any more.
func (r *Room) end() {
	r.mu.Lock()
	r.ended = true
	stop := r.stop
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// Opened says where the room stands in the log: messages after head follow.
func (r *Room) Opened(head room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		return
	}
	r.open, r.head, r.ring.floor = true, head, head
	close(r.opened)
}

// Append is hop 4: it encodes the room's next message once and marks its cursors as
// behind. It never blocks.
func (r *Room) Append(m *room.Message) {
	if r.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		r.cfg.Logger.Debug("append", "hop", 4, "room", r.Name, "id", m.ID)
	}
	e := newEntry(m)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head = m.Position
	r.ring.push(e)
	r.markBehind()
}

// Break says that messages may be missing before head, and why. Cursors at the old
// head are told; those behind it read the log and find out there.
func (r *Room) Break(reason room.GapReason, head room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.cursors {
		if c.place == inRing && c.next == r.ring.end {
			c.pending, c.pendingAt = reason, head
		}
	}
	r.head = head
	r.ring.clear(head, reason == room.Truncated)
	r.markBehind()
}

func (r *Room) markBehind() {
	for c := range r.cursors {
		c.markBehindLocked()
	}
}

// join adds a cursor after a position.
func (r *Room) join(h *Hub, after room.Position, sub Subscriber) (*Cursor, room.Position) {
	c := &Cursor{hub: h, room: r, sub: sub, place: inRing}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursors[c] = struct{}{}
	c.next = r.ring.end
	c.at = r.head
	switch {
	case after.IsZero():
		return c, r.head
	case !r.Policy.Stored():
		c.pending = room.Reset // an ephemeral room has no positions
		return c, room.Position{}
	}
	c.at, c.replayTo = after, r.head
	next, ok := r.ring.find(after)
	if ok {
		c.next = next
	} else {
		c.place = inLog
	}
	return c, after
}
