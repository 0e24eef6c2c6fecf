package hub

import (
	"time"

	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// Bounds of one walk and of one cursor's share in it: a busy room must not hold up
// the others of its lane.
const (
	sliceCursors = 16 // cursors of one Walk: a quarter of a millisecond of writing
	maxFrames    = 64 // frames that one cursor gets at a time
)

// Lane is one goroutine's work on cursors: a subscriber belongs to one lane, and a
// room has its cursors by lane. All methods are for that goroutine.
type Lane struct {
	wake func(p *Part) // static; queues a part that has news, called with its room's lock held

	Trace     func(c *Cursor) // nil, or called after each delivery
	Delivered uint64          // message frames that subscribers took; the owner's to read and reset

	slice  []*Cursor // scratch: the cursors of this walk
	window window    // scratch: what the ring has for them
	plan   plan      // scratch: what one cursor gets
}

// NewLane returns a lane. wake must not block and not call back.
func NewLane(wake func(p *Part)) *Lane { return &Lane{wake: wake} }

// State says what a turn has left of a cursor's need.
type State uint8

// The states of a cursor after a turn.
const (
	Current State = iota // it goes along with its room, or has left
	More                 // there is more: give it another turn
	Full                 // its subscriber took less than there was
	Waiting              // the log is being read: Behind will be called
	TooSlow              // it must be closed: it does not keep up with the room
)

// Walk visits the next cursors of a part that was queued and delivers what they are
// behind by. It reports whether the part is to be walked again.
func (l *Lane) Walk(p *Part, now time.Time) (more bool) {
	r := p.room
	defer p.walked.Store(false)
	r.mu.Lock()
	var done bool
	l.slice, done = p.slice(l.slice[:0], sliceCursors)
	l.window.look(&r.ring, l.slice, now)
	r.mu.Unlock()
	again := false
	for _, c := range l.slice {
		again = l.visit(c, now) || again
	}
	clear(l.slice)
	l.window.forget()
	if !again {
		return !done
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.again = p.visited > 0 // else the next round begins afresh
	if done && !p.queued && len(p.cursors) > 0 {
		p.queued = true
		return true
	}
	return !done
}

// visit delivers to one cursor of the walk. It reports whether the cursor is still
// behind though it could take more.
func (l *Lane) visit(c *Cursor, now time.Time) (again bool) {
	w := &l.window
	switch {
	case c.left.Load() || c.spot.next == w.end && c.resume == nil:
		return false
	case c.resume != nil || !w.plain || c.spot.next < w.first || w.excludes(c):
		switch l.serve(c, maxFrames, now) {
		case Current:
			return false
		case More:
			return true
		case Waiting:
			l.leaveWalk(c)
			return false
		default:
			l.leaveWalk(c)
			c.sub.Behind(c)
			return false
		}
	}
	frames := w.frames[c.format][c.spot.next-w.first:]
	if len(frames) > maxFrames {
		frames = frames[:maxFrames]
	}
	n := c.sub.Deliver(c, frames)
	if n > 0 {
		l.Delivered += uint64(n)
		c.spot.next += uint64(n)
		c.spot.at = w.at[c.spot.next-1-w.first]
		if l.Trace != nil {
			l.Trace(c)
		}
	}
	if n < len(frames) {
		c.slow = true
		l.leaveWalk(c)
		c.sub.Behind(c)
		return false
	}
	return c.spot.next < w.end
}

// leaveWalk takes a cursor that cannot go along out of its part.
func (l *Lane) leaveWalk(c *Cursor) {
	r := c.part.room
	r.mu.Lock()
	defer r.mu.Unlock()
	c.part.remove(c)
}

// Serve gives one cursor a turn: at most limit frames. A cursor that is current
// afterwards goes along with its room again.
func (l *Lane) Serve(c *Cursor, limit int, now time.Time) State {
	state := l.serve(c, limit, now)
	if state != Current {
		return state
	}
	r := c.part.room
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case c.left.Load() || c.index != notWalking:
	case c.spot.next == r.ring.end:
		c.part.add(c)
	default:
		return More // news came meanwhile
	}
	return Current
}

// serve delivers by plan, whatever the cursor's place is.
func (l *Lane) serve(c *Cursor, limit int, now time.Time) State {
	if c.left.Load() {
		return Current
	}
	state := l.plan.make(c, min(limit, maxFrames), now)
	n := 0
	if len(l.plan.frames) > 0 {
		n = c.sub.Deliver(c, l.plan.frames)
	}
	l.Delivered += l.plan.taken(n)
	if n > 0 && l.Trace != nil {
		l.Trace(c)
	}
	if n < len(l.plan.frames) {
		state, c.slow = Full, true
	}
	if state == Current {
		c.slow = false
		if !l.plan.ahead {
			c.resume = nil // what comes next is simply live
		}
	}
	l.plan.forget()
	return state
}

// window is what a ring has for the cursors of a slice.
type window struct {
	first, end uint64
	plain      bool // everybody but the excluded gets all of it
	frames     [wire.Formats][][]byte
	at         []room.Position
	excluded   []exclusion
}

// exclusion is an entry that one user must not see.
type exclusion struct {
	entry uint64
	user  string
}

// look takes what the cursors are behind by, while the room's lock is held.
func (w *window) look(g *ring, cursors []*Cursor, now time.Time) {
	w.first, w.end, w.plain = g.end, g.end, true
	var formats [wire.Formats]bool
	for _, c := range cursors {
		formats[c.format] = true
		w.first = min(w.first, c.spot.next)
	}
	w.first = max(w.first, g.first)
	for n := w.first; n < w.end; n++ {
		e := g.at(n)
		if e.gap != nil || e.msg.Expired(now) {
			w.plain = false
			return
		}
		if e.msg.ExcludeUser != "" {
			w.excluded = append(w.excluded, exclusion{n, e.msg.ExcludeUser})
		}
		w.at = append(w.at, e.msg.Position)
		for f := range formats {
			if formats[f] {
				w.frames[f] = append(w.frames[f], g.frame(n, wire.Format(f), false))
			}
		}
	}
}

// excludes reports whether the window has something that the cursor's user must not
// see.
func (w *window) excludes(c *Cursor) bool {
	for _, x := range w.excluded {
		if x.entry >= c.spot.next && x.user == c.sub.User() {
			return true
		}
	}
	return false
}

func (w *window) forget() {
	for f := range w.frames {
		clear(w.frames[f])
		w.frames[f] = w.frames[f][:0]
	}
	w.at = w.at[:0]
	clear(w.excluded)
	w.excluded = w.excluded[:0]
}
