package client

import (
	"fmt"
	"slices"
	"sync"
)

// rooms knows which rooms are wanted, where each stands, and whose events count. It
// outlives connections.
//
// A place belongs to one connection at a time: the one that asked for it last. From
// the moment that it asks, to go on after the place's position, what others bring of
// the room is dropped, for the asker will bring it again; what the asker itself brings
// counts from its answer on. So a room moves from one open connection to another, and
// back if need be, without an event lost, repeated or out of order.
type rooms struct {
	mu     sync.Mutex
	wanted map[string]*place // by room
	added  int               // places made so far
	open   []*requests       // of the connections, oldest first; the newest asks
}

// place is where the subscription stands in a room. Its fields are guarded by rooms.mu.
type place struct {
	room     string
	order    int    // in which the program named it
	position string // after which to resume; empty = from now on

	owner     *requests // the connection that asked for it last; nil = none that is open has
	ask       uint32    // the id of that request
	answered  bool      // it has its answer
	ephemeral bool      // the last answer had no position: nothing to resume from
}

func newRooms(configs []RoomConfig) (*rooms, error) {
	r := &rooms{wanted: make(map[string]*place, len(configs))}
	for _, c := range configs {
		if err := r.add(c.Room, c.After); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *rooms) add(room, after string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room == "" {
		return invalid("room", "INVALID_ROOM", "is empty")
	}
	if r.wanted[room] != nil {
		return fmt.Errorf("room %q is subscribed already", room)
	}
	r.added++
	p := &place{room: room, order: r.added, position: after}
	r.wanted[room] = p
	if q := r.newestLocked(); q != nil {
		q.todo = append(q.todo, p)
		signal(q.wake)
	}
	return nil
}

func (r *rooms) remove(room string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := r.wanted[room] != nil
	delete(r.wanted, room)
	for _, q := range r.open {
		if !wanted || q.asked[room] { // not wanted: the server may have subscribed it
			q.leave = append(q.leave, room)
			signal(q.wake)
		}
		q.settleLocked()
	}
}

// newestLocked returns the requests of the newest connection, or nil.
func (r *rooms) newestLocked() *requests {
	if len(r.open) == 0 {
		return nil
	}
	return r.open[len(r.open)-1]
}

// begin lets a connection ask for every room.
func (r *rooms) begin(q *requests) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, q)
	for _, p := range r.wanted {
		q.todo = append(q.todo, p)
	}
	sortPlaces(q.todo)
	q.settleLocked()
	signal(q.wake)
}

// end lets go of a connection that is over. What an older one that is still open does
// not have, it asks for again.
func (r *rooms) end(q *requests) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = slices.DeleteFunc(r.open, func(o *requests) bool { return o == q })
	heir := r.newestLocked()
	var orphans []*place
	for _, p := range r.wanted {
		if p.owner == q {
			p.owner, p.answered = nil, false
		}
		if p.owner == nil && heir != nil && !slices.Contains(heir.todo, p) {
			orphans = append(orphans, p)
		}
	}
	if len(orphans) > 0 {
		sortPlaces(orphans)
		heir.todo = append(heir.todo, orphans...)
		signal(heir.wake)
	}
}

func sortPlaces(places []*place) {
	slices.SortFunc(places, func(a, b *place) int { return a.order - b.order })
}

// deliver takes an event of a room in, if what the connection brings of it counts:
// offer puts it into the queue, then the place moves behind it, in one step. It
// reports false if the queue is full.
func (r *rooms) deliver(q *requests, room, position string, offer func() bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.wanted[room]
	if q.leaving[room] > 0 || !r.countsLocked(q, p) {
		return true
	}
	if !offer() {
		return false
	}
	if p != nil && p.owner == q && p.answered && !p.ephemeral && position != "" {
		p.position = position
	}
	return true
}

// countsLocked reports whether what a connection brings of a room counts. p is nil if
// the program has not asked for the room: then the server has subscribed the socket,
// and moves nothing.
func (r *rooms) countsLocked(q *requests, p *place) bool {
	switch {
	case p == nil || p.owner == nil && p.position == "":
		return len(r.open) > 0 && r.open[0] == q
	default:
		return p.owner == q && (p.answered || p.position == "") // empty: nothing will come again
	}
}
