package hub

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// Source brings rooms their messages: the bus.
type Source interface {
	// Listen begins to tell r what happens in its room; stop ends that. Neither
	// blocks on the network or calls r before it returns.
	Listen(r *Room) (stop func())
}

// Log reads rooms' logs for cursors that are behind their ring.
type Log interface {
	Read(ctx context.Context, name room.Name, after room.Position, limit int) (room.Page, error)
	// Ends reports whether the log has nothing of a room after a position, whatever Read
	// shows, which may be behind.
	Ends(ctx context.Context, name room.Name, after room.Position) (bool, error)
}

// Config is what a hub needs. Zero bounds mean the defaults.
type Config struct {
	Policies     *room.Policies
	Source       Source
	Log          Log
	RingMessages uint64 // entries that a room keeps in memory; 0 = 512
	RingBytes    int    // frame bytes that a room keeps in memory; 0 = 1 MiB
	PageBytes    int    // about how many bytes of pages all rooms keep together; 0 = 32 MiB
	Metrics      *metrics.Metrics
	Logger       *slog.Logger
}

// idleAfter is how long a ring is kept that gets no message: who comes back later
// reads the log.
const idleAfter = 30 * time.Second

// Hub is this node's rooms. Safe for concurrent use.
type Hub struct {
	cfg   Config    // static
	begun time.Time // static
	shelf shelf
	reads reads

	mu      sync.Mutex
	rooms   map[room.Name]*Room  // guarded by mu
	watches map[room.Name]*watch // guarded by mu

	warmMu  sync.Mutex // guards what follows; after Room.mu
	warm    []*Room    // whose ring may hold something
	cooling bool       // cool will be called
}

// New returns a hub without rooms.
func New(cfg Config) *Hub {
	if cfg.RingMessages == 0 {
		cfg.RingMessages = 512
	}
	if cfg.RingBytes == 0 {
		cfg.RingBytes = 1 << 20
	}
	if cfg.PageBytes == 0 {
		cfg.PageBytes = 32 << 20
	}
	h := &Hub{cfg: cfg, begun: time.Now(), rooms: make(map[room.Name]*Room), watches: make(map[room.Name]*watch)}
	h.shelf.maxBytes = cfg.PageBytes
	h.reads.hub = h
	h.reads.ctx, h.reads.end = context.WithCancel(context.Background()) //nolint:fatcontext // the first
	return h
}

// Close ends the reading of logs and waits for it. All cursors must have left.
func (h *Hub) Close() { h.reads.close() }

// Join makes a cursor in a room after a position: the zero position means from now
// on. It waits until the room's place in the log is known, or ctx ends or the time by
// has come (kind Unavailable). The cursor delivers nothing before its Start; the
// returned position is where it stands, empty in an ephemeral room. The caller must
// Leave.
func (h *Hub) Join(ctx context.Context, by time.Time, name room.Name, after room.Position, sub Subscriber) (*Cursor, room.Position, error) {
	r := h.hold(name)
	if err := r.wait(ctx, by); err != nil {
		h.release(r)
		return nil, room.Position{}, &room.Error{
			Kind: room.Unavailable, Reason: room.ReasonBusUnavailable,
			Msg: "the room's log does not answer", RetryAfter: waitRetry, Err: err,
		}
	}
	c, pos := r.join(after, sub)
	return c, pos, nil
}

// hold finds or makes a room and keeps it until release.
func (h *Hub) hold(name room.Name) *Room {
	h.mu.Lock()
	r := h.rooms[name]
	fresh := r == nil
	if fresh {
		r = newRoom(room.Name(strings.Clone(string(name))), h) // of a request that it is from nothing else is to be kept
		r.watch = h.watches[name]
		h.rooms[r.Name] = r
		h.cfg.Metrics.Rooms.Inc()
	}
	r.holds++
	h.mu.Unlock()
	if fresh {
		r.setStop(h.cfg.Source.Listen(r))
	}
	return r
}

// release gives back a hold; the last one ends the room.
func (h *Hub) release(r *Room) {
	h.mu.Lock()
	r.holds--
	last := r.holds == 0
	if last {
		delete(h.rooms, r.Name)
		h.cfg.Metrics.Rooms.Dec()
	}
	h.mu.Unlock()
	if last {
		r.end()
	}
}

// Rooms returns how many rooms have sockets here.
func (h *Hub) Rooms() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rooms)
}

// keepWarm notes that a room's ring is no longer empty, so that it is emptied when
// the room falls idle. The room's lock is held.
func (h *Hub) keepWarm(r *Room) {
	h.warmMu.Lock()
	defer h.warmMu.Unlock()
	h.warm = append(h.warm, r)
	h.coolLater()
}

// shelve keeps a page that was read.
func (h *Hub) shelve(r *Room, pg *page) {
	h.shelf.put(r, pg)
	h.warmMu.Lock()
	defer h.warmMu.Unlock()
	h.coolLater()
}

// coolLater has cool called, once. The lock is held.
func (h *Hub) coolLater() {
	if !h.cooling {
		h.cooling = true
		time.AfterFunc(idleAfter, h.cool)
	}
}

// cool empties the rings of rooms that have been idle and forgets pages that nobody
// has used, and looks again later while there are others.
func (h *Hub) cool() {
	h.warmMu.Lock()
	list := h.warm
	h.warm = nil
	h.warmMu.Unlock()
	now := time.Now()
	var busy []*Room
	for _, r := range list {
		if !r.cool(now) {
			busy = append(busy, r)
		}
	}
	empty := h.shelf.cool(now)
	h.warmMu.Lock()
	defer h.warmMu.Unlock()
	h.warm, h.cooling = append(h.warm, busy...), false
	if len(h.warm) > 0 || !empty {
		h.coolLater()
	}
}
