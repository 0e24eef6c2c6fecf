package hub

import (
	"context"
	"log/slog"
	"sync"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// Source brings rooms their messages: the bus.
type Source interface {
	// Listen begins to tell r what happens in its room; stop ends that. Neither
	// blocks on the network or calls r before it returns.
	Listen(r *Room) (stop func())
}

// Config is what a hub needs. Zero bounds mean the defaults.
type Config struct {
	Policies     *room.Policies
	Source       Source
	RingMessages uint64 // entries that a room keeps in memory; 0 = 512
	RingBytes    int    // frame bytes that a room keeps in memory; 0 = 1 MiB
	Metrics      *metrics.Metrics
	Logger       *slog.Logger
}

// Hub is this node's rooms. Safe for concurrent use.
type Hub struct {
	cfg Config // static

	mu    sync.Mutex
	rooms map[room.Name]*Room // guarded by mu
}

// New returns a hub without rooms.
func New(cfg Config) *Hub {
	if cfg.RingMessages == 0 {
		cfg.RingMessages = 512
	}
	if cfg.RingBytes == 0 {
		cfg.RingBytes = 1 << 20
	}
	return &Hub{cfg: cfg, rooms: make(map[room.Name]*Room)}
}

// Join makes a cursor in a room after a position: the zero position means from now
// on. It waits until the room's place in the log is known, or ctx ends (kind
// Unavailable). The cursor delivers nothing before its Start; the returned position
// is where it stands, empty in an ephemeral room. The caller must Leave.
func (h *Hub) Join(ctx context.Context, name room.Name, after room.Position, sub Subscriber) (*Cursor, room.Position, error) {
	r := h.hold(name)
	select {
	case <-r.opened:
	case <-ctx.Done():
		h.release(r)
		return nil, room.Position{}, &room.Error{
			Kind: room.Unavailable, Reason: room.ReasonBusUnavailable,
			Msg: "the room's log does not answer", RetryAfter: waitRetry, Err: ctx.Err(),
		}
	}
	c, pos := r.join(h, after, sub)
	return c, pos, nil
}

// hold finds or makes a room and keeps it until release.
func (h *Hub) hold(name room.Name) *Room {
	h.mu.Lock()
	r := h.rooms[name]
	fresh := r == nil
	if fresh {
		r = newRoom(name, h.cfg)
		h.rooms[name] = r
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
