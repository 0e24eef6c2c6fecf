package hub

import "sync/atomic"

// Part is the cursors of one room and one lane that go along with the room: each walk
// over them gives each what it is behind by. Its fields are guarded by the room's
// lock.
type Part struct {
	// static
	room *Room
	lane *Lane

	cursors []*Cursor // first those that this round has visited
	visited int
	target  uint64 // the ring's end when the round began
	again   bool   // a cursor of this round is still behind
	queued  bool   // the lane has been woken and has not found all current since

	walked atomic.Bool // cursors of a slice are being given what they are behind by; the lane ends it without the lock
}

// news queues the part in its lane, once.
func (p *Part) news() {
	if !p.queued && len(p.cursors) > 0 {
		p.queued = true
		p.lane.wake(p)
	}
}

// add lets a cursor that is current go along.
func (p *Part) add(c *Cursor) {
	c.index = int32(len(p.cursors)) //nolint:gosec // a process has far fewer sockets
	p.cursors = append(p.cursors, c)
}

// remove takes a cursor out, if it is there. Those visited stay first.
func (p *Part) remove(c *Cursor) {
	if c.index == notWalking {
		return
	}
	hole := int(c.index)
	if hole < p.visited {
		p.visited--
		hole = p.move(p.visited, hole)
	}
	last := len(p.cursors) - 1
	if hole < last { // else who stood there is c, or has moved already
		p.move(last, hole)
	}
	p.cursors[last] = nil
	p.cursors = p.cursors[:last]
	c.index = notWalking
	if len(p.cursors)*4 < cap(p.cursors) && cap(p.cursors) > 16 {
		p.cursors = append(make([]*Cursor, 0, 2*len(p.cursors)), p.cursors...)
	}
}

// move puts the cursor at from into a hole and returns where there is a hole now.
func (p *Part) move(from, hole int) int {
	if from != hole { // else what stands there has moved already
		p.cursors[hole] = p.cursors[from]
		p.cursors[hole].index = int32(hole) //nolint:gosec // an index
	}
	return from
}

// slice takes the next cursors to visit, at most n, into dst. done reports that all
// will be current after them but for what comes from now on.
func (p *Part) slice(dst []*Cursor, n int) (_ []*Cursor, done bool) {
	end := p.room.ring.end
	if p.visited == 0 {
		p.target, p.again = end, false
	}
	n = min(n, len(p.cursors)-p.visited)
	dst = append(dst, p.cursors[p.visited:p.visited+n]...)
	p.walked.Store(true)
	p.visited += n
	if p.visited < len(p.cursors) {
		return dst, false
	}
	p.visited = 0
	done = p.target == end && !p.again
	if done {
		p.queued = false
	}
	return dst, done
}
