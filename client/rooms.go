package client

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxRequests bounds the subscribes that wait for their answers, so that a program with
// thousands of rooms does not look like a flood.
const maxRequests = 64

// rooms knows which rooms are wanted, where each stands, and what this connection has
// still to ask for. Positions outlive connections, requests do not.
type rooms struct {
	wake chan struct{} // one slot: there may be something to ask for

	mu       sync.Mutex
	wanted   map[string]*place // by room
	added    int               // places made so far
	todo     []*place          // to be subscribed now, in order
	later    []laterPlace      // to be subscribed at a time
	leave    []string          // to be unsubscribed
	leaving  map[string]int    // unanswered unsubscribes by room; what still comes of it is not wanted
	requests map[uint32]request
	lastID   uint32
}

// place is where the subscription stands in a room. Its fields are guarded by rooms.mu.
type place struct {
	room     string
	order    int    // in which the program named it
	position string // after which to resume; empty = from now on

	asked     bool // this connection has sent a subscribe
	ephemeral bool // the last answer had no position: nothing to resume from
}

type laterPlace struct {
	place *place
	at    time.Time
}

// request is a subscribe or unsubscribe that waits for its answer.
type request struct {
	place *place // of a subscribe
	leave string // of an unsubscribe
}

func newRooms(configs []RoomConfig) (*rooms, error) {
	r := &rooms{
		wake:     make(chan struct{}, 1),
		wanted:   make(map[string]*place, len(configs)),
		leaving:  make(map[string]int),
		requests: make(map[uint32]request),
	}
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
	r.todo = append(r.todo, p)
	signal(r.wake)
	return nil
}

func (r *rooms) remove(room string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.wanted[room]
	delete(r.wanted, room)
	if p == nil || p.asked { // nil: the server may have subscribed it
		r.leave = append(r.leave, room)
		signal(r.wake)
	}
}

// begin prepares for a new connection: every room is asked for again.
func (r *rooms) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.requests)
	clear(r.leaving)
	r.leave, r.later, r.todo = nil, nil, nil
	for _, p := range r.wanted {
		p.asked = false
		r.todo = append(r.todo, p)
	}
	slices.SortFunc(r.todo, func(a, b *place) int { return a.order - b.order })
}

// next returns the frame to send now, or nil and when there may be one (zero = when
// woken). Leaving comes first, so that a room removed and added again ends up subscribed.
func (r *rooms) next(now time.Time) (*clientFrame, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.leave) > 0 {
		room := r.leave[0]
		r.leave = r.leave[1:]
		r.leaving[room]++
		return &clientFrame{ID: r.requestLocked(request{leave: room}), Unsubscribe: &roomFrame{Room: room}}, time.Time{}
	}
	at := r.promoteLocked(now)
	for len(r.todo) > 0 && len(r.requests) < maxRequests {
		p := r.todo[0]
		r.todo = r.todo[1:]
		if r.wanted[p.room] != p {
			continue // removed meanwhile
		}
		p.asked = true
		id := r.requestLocked(request{place: p})
		return &clientFrame{ID: id, Subscribe: &subscribeFrame{Room: p.room, After: p.position}}, time.Time{}
	}
	return nil, at
}

// promoteLocked moves what is due from later to todo and returns when the rest is.
func (r *rooms) promoteLocked(now time.Time) (next time.Time) {
	waiting := r.later[:0]
	for _, l := range r.later {
		if !l.at.After(now) {
			r.todo = append(r.todo, l.place)
			continue
		}
		waiting = append(waiting, l)
		next = earliest(next, l.at)
	}
	r.later = waiting
	return next
}

// requestID returns an id for a request whose answer rooms does not wait for.
func (r *rooms) requestID() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastID++
	return r.lastID
}

func (r *rooms) requestLocked(req request) uint32 {
	r.lastID++
	r.requests[r.lastID] = req
	return r.lastID
}

// answeredLocked takes the request that an answer is for.
func (r *rooms) answeredLocked(id uint32) request {
	req := r.requests[id]
	delete(r.requests, id)
	signal(r.wake) // there is room for another
	if req.leave != "" {
		if r.leaving[req.leave]--; r.leaving[req.leave] <= 0 {
			delete(r.leaving, req.leave)
		}
	}
	return req
}

// subscribed notes where a room stands. unwanted reports that it was removed meanwhile;
// missed, that a room without history is back and what was sent meanwhile is lost.
func (r *rooms) subscribed(id uint32, room, position string) (unwanted, missed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	req := r.answeredLocked(id)
	p := r.wanted[room]
	if req.place != nil && req.place != p {
		return true, false
	}
	if p == nil || !p.asked {
		return false, false // the server subscribed it: not ours to resume
	}
	missed = p.ephemeral && position == ""
	p.ephemeral = position == ""
	p.position = position
	return false, missed
}

// unsubscribed ends a room. It reports whether that was the server's doing.
func (r *rooms) unsubscribed(id uint32, room string) (byServer bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req := r.answeredLocked(id); req.leave != "" {
		return false
	}
	delete(r.wanted, room)
	return true
}

// refused takes note of an error frame. It returns the room whose subscribe was refused
// for good, or nothing; mine reports whether the request was one of rooms.
func (r *rooms) refused(id uint32, retryAfter time.Duration) (room string, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	req := r.answeredLocked(id)
	p := req.place
	switch {
	case p == nil:
		return "", req.leave != ""
	case r.wanted[p.room] != p:
		return "", true
	case retryAfter > 0:
		r.later = append(r.later, laterPlace{place: p, at: time.Now().Add(retryAfter)})
		return "", true
	default:
		return p.room, true
	}
}

// left reports whether what comes of a room is of no interest any more.
func (r *rooms) left(room string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leaving[room] > 0
}

// advance notes that everything of a room up to a position is in the queue.
func (r *rooms) advance(room, position string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.wanted[room]; p != nil && p.asked && !p.ephemeral && position != "" {
		p.position = position
	}
}

// earliest returns the earlier time; zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
