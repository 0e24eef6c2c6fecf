package client

import (
	"time"
)

// maxRequests bounds the subscribes that wait for their answers, so that a program with
// thousands of rooms does not look like a flood.
const maxRequests = 64

// requests is what one connection has asked for and has still to ask for.
type requests struct {
	rooms   *rooms        // static
	wake    chan struct{} // one slot: there may be something to ask for
	settled chan struct{} // closed once every wanted room is this connection's

	// Guarded by rooms.mu.
	todo     []*place           // to be subscribed now, in order
	later    []laterPlace       // to be subscribed at a time
	asked    map[string]bool    // rooms that the server may have subscribed for us
	leave    []string           // to be unsubscribed
	leaving  map[string]int     // unanswered unsubscribes by room; what still comes of it is not wanted
	awaiting map[uint32]request // by id
	lastID   uint32
	whole    bool // settled is closed
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

func newRequests(r *rooms) *requests {
	return &requests{
		rooms:    r,
		wake:     make(chan struct{}, 1),
		settled:  make(chan struct{}),
		asked:    make(map[string]bool),
		leaving:  make(map[string]int),
		awaiting: make(map[uint32]request),
	}
}

// next returns the frame to send now, or nil and when there may be one (zero = when
// woken). Leaving comes first, so that a room removed and added again ends up subscribed.
func (q *requests) next(now time.Time) (*clientFrame, time.Time) {
	q.rooms.mu.Lock()
	defer q.rooms.mu.Unlock()
	if len(q.leave) > 0 {
		room := q.leave[0]
		q.leave = q.leave[1:]
		q.leaving[room]++
		delete(q.asked, room)
		return &clientFrame{ID: q.awaitLocked(request{leave: room}), Unsubscribe: &roomFrame{Room: room}}, time.Time{}
	}
	if q.rooms.newestLocked() != q {
		return nil, time.Time{} // a newer connection asks
	}
	at := q.promoteLocked(now)
	for len(q.todo) > 0 && len(q.awaiting) < maxRequests {
		p := q.todo[0]
		q.todo = q.todo[1:]
		if q.rooms.wanted[p.room] != p {
			continue // removed meanwhile
		}
		q.asked[p.room] = true
		p.owner, p.answered, p.ask = q, false, q.awaitLocked(request{place: p})
		return &clientFrame{ID: p.ask, Subscribe: &subscribeFrame{Room: p.room, After: p.position}}, time.Time{}
	}
	return nil, at
}

// promoteLocked moves what is due from later to todo and returns when the rest is.
func (q *requests) promoteLocked(now time.Time) (next time.Time) {
	waiting := q.later[:0]
	for _, l := range q.later {
		if !l.at.After(now) {
			q.todo = append(q.todo, l.place)
			continue
		}
		waiting = append(waiting, l)
		next = earliest(next, l.at)
	}
	q.later = waiting
	return next
}

// id returns an id for a request whose answer nobody waits for.
func (q *requests) id() uint32 {
	q.rooms.mu.Lock()
	defer q.rooms.mu.Unlock()
	q.lastID++
	return q.lastID
}

func (q *requests) awaitLocked(req request) uint32 {
	q.lastID++
	q.awaiting[q.lastID] = req
	return q.lastID
}

// answeredLocked takes the request that an answer is for.
func (q *requests) answeredLocked(id uint32) request {
	req := q.awaiting[id]
	delete(q.awaiting, id)
	signal(q.wake) // there is room for another
	if req.leave != "" {
		if q.leaving[req.leave]--; q.leaving[req.leave] <= 0 {
			delete(q.leaving, req.leave)
		}
	}
	return req
}

// mineLocked reports whether a place waits for the answer with this id.
func (q *requests) mineLocked(p *place, id uint32) bool {
	return p != nil && q.rooms.wanted[p.room] == p && p.owner == q && p.ask == id
}

// subscribed notes where a room stands. unwanted reports that it was removed or moved
// meanwhile; missed, that a room without history is back and what was sent meanwhile
// is lost.
func (q *requests) subscribed(id uint32, room, position string) (unwanted, missed bool) {
	q.rooms.mu.Lock()
	defer q.rooms.mu.Unlock()
	req := q.answeredLocked(id)
	p := q.rooms.wanted[room]
	switch {
	case req.place != nil && !q.mineLocked(req.place, id):
		return true, false
	case req.place == nil && (p == nil || p.owner != q || !p.answered):
		return false, false // the server subscribed it: not ours to resume
	}
	missed = p.ephemeral && position == ""
	p.position, p.answered, p.ephemeral = position, true, position == ""
	q.settleLocked()
	return false, missed
}

// unsubscribed ends a room. It reports whether that was the server's doing.
func (q *requests) unsubscribed(id uint32, room string) (byServer bool) {
	q.rooms.mu.Lock()
	defer q.rooms.mu.Unlock()
	if req := q.answeredLocked(id); req.leave != "" {
		return false
	}
	if p := q.rooms.wanted[room]; p != nil && p.owner != nil && p.owner != q {
		return false // it has moved
	}
	delete(q.rooms.wanted, room)
	delete(q.asked, room)
	q.settleLocked()
	return true
}

// refused takes note of an error frame. It returns the room whose subscribe was refused
// for good, or nothing; mine reports whether the request was one of ours.
func (q *requests) refused(id uint32, retryAfter time.Duration) (room string, mine bool) {
	q.rooms.mu.Lock()
	defer q.rooms.mu.Unlock()
	req := q.answeredLocked(id)
	switch {
	case req.place == nil:
		return "", req.leave != ""
	case !q.mineLocked(req.place, id):
		return "", true
	case retryAfter > 0:
		q.later = append(q.later, laterPlace{place: req.place, at: time.Now().Add(retryAfter)})
		return "", true
	default:
		return req.place.room, true
	}
}

// settleLocked notes when every wanted room is this connection's.
func (q *requests) settleLocked() {
	if q.whole {
		return
	}
	for _, p := range q.rooms.wanted {
		if p.owner != q || !p.answered {
			return
		}
	}
	q.whole = true
	close(q.settled)
}

// earliest returns the earlier time; zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
