package gateway

import (
	"iter"
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
	one   *hub.Cursor               // the first, while it is alone: most sockets have one room
	of    map[room.Name]*hub.Cursor // all, once there are more
	given map[room.Name]struct{}    // of them, those that the server subscribed; nil = none

	watches map[room.Name]*presence.Watch // of them, those whose members the peer is told of; nil = none
}

// getLocked returns the cursor of a room; nil if the socket is not in it. The lock is held,
// here and below.
func (r *rooms) getLocked(name room.Name) *hub.Cursor {
	if r.one != nil && r.one.Room() == name {
		return r.one
	}
	return r.of[name]
}

// putLocked notes the cursor of a room, in place of another one if there is.
func (r *rooms) putLocked(c *hub.Cursor) {
	switch {
	case r.of != nil:
		r.of[c.Room()] = c
	case r.one == nil || r.one.Room() == c.Room():
		r.one = c
	default:
		r.of = map[room.Name]*hub.Cursor{r.one.Room(): r.one, c.Room(): c}
		r.one = nil
	}
}

func (r *rooms) deleteLocked(name room.Name) {
	if r.one != nil && r.one.Room() == name {
		r.one = nil
	}
	delete(r.of, name)
}

// allLocked returns the cursors.
func (r *rooms) allLocked() iter.Seq[*hub.Cursor] {
	return func(yield func(*hub.Cursor) bool) {
		if r.one != nil && !yield(r.one) {
			return
		}
		for _, c := range r.of {
			if !yield(c) {
				return
			}
		}
	}
}

func (r *rooms) lenLocked() int {
	if r.one != nil {
		return 1
	}
	return len(r.of)
}

// has reports whether the socket is in a room, and how many it is in.
func (r *rooms) has(name room.Name) (in bool, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.getLocked(name) != nil, r.lenLocked()
}

// names lists the rooms, sorted.
func (r *rooms) names() []room.Name {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.namesLocked()
}

func (r *rooms) namesLocked() []room.Name {
	list := make([]room.Name, 0, r.lenLocked())
	for c := range r.allLocked() {
		list = append(list, c.Room())
	}
	slices.Sort(list)
	return list
}

// give notes that the server wants the socket in a room, if it is there.
func (r *rooms) give(name room.Name) (in bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.getLocked(name) == nil {
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

// end leaves every room. The socket is closing: no more come in. It may be called again.
func (r *rooms) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.allLocked() {
		c.Close()
	}
	for _, w := range r.watches {
		w.Stop()
	}
	r.one, r.of, r.given, r.watches = nil, nil, nil, nil
}
