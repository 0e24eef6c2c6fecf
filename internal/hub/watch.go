package hub

import "github.com/roomcast/roomcast/internal/room"

// watch is who is told of a room's joins and leaves, whether the room has sockets here
// or not.
type watch struct {
	tell func(seq uint64, m room.Member, left room.LeaveReason)
	seq  uint64 // of the newest; guarded by the lock of the room, or the hub's while there is none
}

// Watch has tell called for each join (left is empty) and leave of a room on this node,
// in their order, numbered from 1, until stop. A room has one watch at a time. tell is
// called with the room's lock held: it must not block and not call back. A member's user
// may change ([Cursor.Renamed]), its connection never does.
func (h *Hub) Watch(name room.Name, tell func(seq uint64, m room.Member, left room.LeaveReason)) (stop func()) {
	h.setWatch(name, &watch{tell: tell})
	return func() { h.setWatch(name, nil) }
}

func (h *Hub) setWatch(name room.Name, w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w != nil {
		h.watches[name] = w
	} else {
		delete(h.watches, name)
	}
	if r := h.rooms[name]; r != nil {
		r.mu.Lock()
		r.watch = w
		r.mu.Unlock()
	}
}

// tell tells the room's watch, if there is one. The lock is held.
func (r *Room) tell(c *Cursor, left room.LeaveReason) {
	if r.watch != nil {
		r.watch.seq++
		r.watch.tell(r.watch.seq, c.as(), left)
	}
}

// Snapshot returns the members of a room on this node, in no order, and the number of
// the newest join or leave that they include; 0 if the room is not watched.
func (h *Hub) Snapshot(name room.Name) (members []room.Member, seq uint64) {
	var list []*Cursor
	h.under(name, func(r *Room, w *watch) {
		if r != nil {
			list = append(list, r.members...)
		}
		if w != nil {
			seq = w.seq
		}
	})
	members = make([]room.Member, 0, len(list))
	for _, c := range list {
		members = append(members, c.as())
	}
	return members, seq
}

// Told returns the number of a room's newest join or leave; 0 if it is not watched.
func (h *Hub) Told(name room.Name) (seq uint64) {
	h.under(name, func(_ *Room, w *watch) {
		if w != nil {
			seq = w.seq
		}
	})
	return seq
}

// under calls do with a room, its lock held, and who watches it; with the hub's lock
// held if nobody has the room: then r is nil.
func (h *Hub) under(name room.Name, do func(r *Room, w *watch)) {
	h.mu.Lock()
	r := h.rooms[name]
	if r == nil {
		defer h.mu.Unlock()
		do(nil, h.watches[name])
		return
	}
	r.holds++ // it cannot end meanwhile
	h.mu.Unlock()
	defer h.release(r)
	r.mu.Lock()
	defer r.mu.Unlock()
	do(r, r.watch)
}
