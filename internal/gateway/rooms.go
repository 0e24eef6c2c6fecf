package gateway

import (
	"slices"
	"sync"

	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// rooms is a session's subscriptions. Its lock comes before the hub's: it is held
// while a cursor starts or leaves, so that the frames that say so stand in that order.
type rooms struct {
	mu    sync.Mutex                // guards what follows
	of    map[room.Name]*hub.Cursor // nil = none yet
	given map[room.Name]struct{}    // of them, those that the server subscribed; nil = none
	ended bool                      // no more come in

	watches map[room.Name]*presence.Watch // of them, those whose members the peer is told of; nil = none
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

// isGiven reports whether the server subscribed a room: then it does not depend on the
// token.
func (r *rooms) isGiven(name room.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, given := r.given[name]
	return given
}

// give notes that the server wants the socket in a room, if it is there.
func (r *rooms) give(name room.Name) (in bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[name] == nil {
		return false
	}
	r.giveLocked(name)
	return true
}

func (r *rooms) giveLocked(name room.Name) {
	if r.given == nil {
		r.given = make(map[room.Name]struct{})
	}
	r.given[name] = struct{}{}
}

// end leaves every room for good. It may be called again.
func (r *rooms) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	for _, c := range r.of {
		c.Close()
	}
	for _, w := range r.watches {
		w.Stop()
	}
	r.of, r.given, r.watches = nil, nil, nil
}
