package hub

import (
	"context"
	"iter"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// A room's members are the cursors of sockets, from Start to Leave. Who watches a room
// is told of them in the order of the room's lock.

// sinceUnit is the unit of Cursor.since: 32 bits of it are longer than a node lives.
const sinceUnit = 10 * time.Millisecond

// enter makes a started cursor a member. The lock is held.
func (r *Room) enter(c *Cursor) {
	if c.member != notMember || c.sub.Connection() == "" {
		return
	}
	c.member = int32(len(r.members)) //nolint:gosec // a process has far fewer sockets
	r.members = append(r.members, c)
	c.joined = r.head.Seq
	c.since = uint32((time.Since(r.hub.begun) + sinceUnit - 1) / sinceUnit) //nolint:gosec // see sinceUnit
	r.tell(c, "")
}

// quit takes a member out, if it is one. The lock is held.
func (r *Room) quit(c *Cursor, why room.LeaveReason) {
	if c.member == notMember {
		return
	}
	r.put(c.member, r.members[len(r.members)-1])
	r.members[len(r.members)-1] = nil
	r.members = r.members[:len(r.members)-1]
	if len(r.members)*4 < cap(r.members) && cap(r.members) > 16 {
		r.members = append(make([]*Cursor, 0, 2*len(r.members)), r.members...)
	}
	c.member = notMember
	r.tell(c, why)
}

// put gives a cursor a place among the members. The lock is held.
func (r *Room) put(place int32, c *Cursor) { r.members[place], c.member = c, place }

// succeed has a cursor take another one's place among the members, if that is one. The
// lock is held.
func (r *Room) succeed(c, next *Cursor) {
	if c.member != notMember {
		r.put(c.member, next)
		c.member, next.joined, next.since = notMember, c.joined, c.since
	}
}

// Renamed says that the subscriber has another user from now on: who watches is told
// of a leave and a join.
func (c *Cursor) Renamed() {
	r := c.part.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.member != notMember {
		r.tell(c, room.Unsubscribed)
		r.tell(c, "")
	}
}

// as returns the cursor as others see it.
func (c *Cursor) as() room.Member {
	return room.Member{
		User:       c.sub.User(),
		Connection: c.sub.Connection(),
		Since:      c.part.room.hub.begun.Add(time.Duration(c.since) * sinceUnit),
	}
}

// Members yields the sockets that are in a room on this node, in no order.
func (h *Hub) Members(name room.Name) iter.Seq[room.Member] {
	var list []*Cursor
	h.under(name, func(r *Room, _ *watch) {
		if r != nil {
			list = append(list, r.members...)
		}
	})
	return each(list)
}

func each(list []*Cursor) iter.Seq[room.Member] {
	return func(yield func(room.Member) bool) {
		for _, c := range list {
			if !yield(c.as()) {
				return
			}
		}
	}
}

// look takes a room for a moment, so that it cannot end meanwhile; nil if nobody has
// it. The caller must release it.
func (h *Hub) look(name room.Name) *Room {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[name]
	if r != nil {
		r.holds++
	}
	return r
}

// Arrived waits until this node has taken in a room's message, which stands at a
// position, and yields the members that were there before it. The zero position is an
// ephemeral room's: it waits for nothing. If nobody is in the room there is nothing to
// wait for. The error is ctx's.
func (h *Hub) Arrived(ctx context.Context, name room.Name, at room.Position) (iter.Seq[room.Member], error) {
	r := h.look(name)
	if r == nil {
		return each(nil), nil
	}
	defer h.release(r)
	for {
		there, moved := r.arrived(at)
		if moved == nil {
			return each(there), nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// arrived returns the members that were there before a position, or what is closed when
// the head has moved, because it has not come so far.
func (r *Room) arrived(at room.Position) (there []*Cursor, moved <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.members) > 0 && !at.IsZero() && (r.head.Epoch != at.Epoch || r.head.Seq < at.Seq) {
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		return nil, r.moved
	}
	for _, c := range r.members {
		if at.IsZero() || c.joined < at.Seq {
			there = append(there, c)
		}
	}
	return there, nil
}

// movedOn tells who waits for the head. The lock is held.
func (r *Room) movedOn() {
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// occupiedAtOnce is how many rooms are looked at before others get the hub's lock.
const occupiedAtOnce = 512

// Occupied yields the rooms that have members on this node, in no order. One that comes
// or goes meanwhile may be among them or not.
func (h *Hub) Occupied() iter.Seq[room.Name] {
	return func(yield func(room.Name) bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		batch := make([]*Room, 0, occupiedAtOnce)
		for _, r := range h.rooms {
			if batch = append(batch, r); len(batch) < occupiedAtOnce {
				continue
			}
			h.mu.Unlock()
			goOn := yieldOccupied(batch, yield)
			h.mu.Lock()
			if !goOn {
				return
			}
			batch = batch[:0]
		}
		h.mu.Unlock()
		yieldOccupied(batch, yield)
		h.mu.Lock()
	}
}

func yieldOccupied(batch []*Room, yield func(room.Name) bool) bool {
	for _, r := range batch {
		r.mu.Lock()
		occupied := len(r.members) > 0
		r.mu.Unlock()
		if occupied && !yield(r.Name) {
			return false
		}
	}
	return true
}

// Standing says how this node has a room: the newest position that it has taken in,
// its members, and how many of them are behind its memory and read from the log.
func (h *Hub) Standing(name room.Name) (head room.Position, members, slow int) {
	h.under(name, func(r *Room, _ *watch) {
		if r == nil {
			return
		}
		head, members = r.head, len(r.members)
		for _, c := range r.members {
			if c.reading {
				slow++
			}
		}
	})
	return head, members, slow
}
