package gateway

import (
	"slices"
	"sync"

	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
)

// rooms is a session's subscriptions. Its lock comes before the hub's: it is held
// while a cursor starts or leaves, so that the frames that say so stand in that order.
type rooms struct {
	mu    sync.Mutex                // guards what follows
	of    map[room.Name]*hub.Cursor // nil = none yet
	ended bool                      // no more come in
}

// has reports whether the socket is in a room, and how many it is in.
func (r *rooms) has(name room.Name) (in bool, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[name] != nil, len(r.of)
}

// names lists the rooms, sorted.
func (r *rooms) names() []room.Name {
	r.mu.Lock()
	list := make([]room.Name, 0, len(r.of))
	for name := range r.of {
		list = append(list, name)
	}
	r.mu.Unlock()
	slices.Sort(list)
	return list
}

// end leaves every room for good. It may be called again.
func (r *rooms) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, c := range r.of {
		c.Leave()
	}
	r.of = nil
}
