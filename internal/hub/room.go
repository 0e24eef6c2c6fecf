package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// waitRetry is when to try again to join a room that could not be opened.
const waitRetry = time.Second

// Room is one room of this node. The bus tells it what happens, from one goroutine.
type Room struct {
	// static
	Name   room.Name
	Policy *room.Policy
	hub    *Hub

	holds int // guarded by Hub.mu

	mu      sync.Mutex    // guards what follows
	opening chan struct{} // not nil: who waits until the room is open; closed then
	open    bool          // the room's place in the log is known
	ended   bool
	warm    bool // in Hub.warm
	stop    func()
	head    room.Position
	known   room.Position // the log has, or may have, the room's messages up to it
	ring    ring
	parts   []*Part           // of the lanes that have had a cursor here; few
	formats [wire.Formats]int // cursors by the format of their frames
	last    time.Time         // when the newest message came
	members []*Cursor         // those of sockets, started
	watch   *watch            // is told of members; nil = nobody is
	moved   chan struct{}     // not nil: who waits for the head; closed when it moves
}

func newRoom(name room.Name, h *Hub) *Room {
	return &Room{
		Name:   name,
		Policy: h.cfg.Policies.Of(name),
		hub:    h,
		ring:   ring{maxMessages: h.cfg.RingMessages, maxBytes: h.cfg.RingBytes},
	}
}

// setStop keeps how to end the source's interest. A room that has ended meanwhile
// ends it at once.
func (r *Room) setStop(stop func()) {
	r.mu.Lock()
	r.stop = stop
	ended := r.ended
	r.mu.Unlock()
	if ended {
		stop()
	}
}

// end tells the source that nobody listens any more.
func (r *Room) end() {
	r.mu.Lock()
	r.ended = true
	stop := r.stop
	r.ring.clear(r.head, false)
	r.mu.Unlock()
	r.hub.shelf.drop(r)
	if stop != nil {
		stop()
	}
}

// Opened says where the room stands in the log: messages after head follow.
func (r *Room) Opened(head room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		return
	}
	r.open, r.head, r.known, r.ring.floor = true, head, head, head
	if head.IsWatermark() {
		r.known.Seq = 0 // other rooms' messages, none of this one
	}
	if r.opening != nil {
		close(r.opening)
		r.opening = nil
	}
}

// whenOpen returns what is closed once the room is open; nil if it is.
func (r *Room) whenOpen() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		return nil
	}
	if r.opening == nil {
		r.opening = make(chan struct{})
	}
	return r.opening
}

// wait waits until the room is open. Most are: then it costs nothing.
func (r *Room) wait(ctx context.Context, by time.Time) error {
	opened := r.whenOpen()
	if opened == nil {
		return nil
	}
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case <-opened:
		return nil
	case <-timer.C:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stands says where the room stands in the log now: it has no message there any more.
// Who joins from now on gets that position; cursors keep theirs.
func (r *Room) Stands(head room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || !r.open {
		return
	}
	r.head, r.known = head, room.Position{Epoch: head.Epoch}
	r.movedOn()
	if r.ring.first == r.ring.end {
		r.ring.clear(head, false)
	}
}

// Append is hop 4: it encodes the room's next message once for each format in use and
// queues the parts that have cursors. It never blocks.
func (r *Room) Append(m *room.Message) {
	if r.hub.cfg.Logger.Enabled(context.Background(), slog.LevelDebug) {
		r.hub.cfg.Logger.Debug("append", "hop", 4, "room", r.Name, "id", m.ID)
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.head, r.known, r.last = m.Position, m.Position, now
	r.movedOn()
	e := entry{msg: m}
	for f, cursors := range r.formats {
		if cursors > 0 {
			e.frame(wire.Format(f), false)
		}
	}
	r.push(e)
}

// Break says that messages may be missing before head, and why. Cursors at the old
// head pass a gap; those behind it read the log and find out there.
func (r *Room) Break(reason room.GapReason, head room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restart(gap{reason: reason, after: r.head, goesOn: head}, reason == room.Truncated)
}

// Purged says that what the log had before the marker was removed. Every cursor before
// it passes one gap, at the marker, wherever it is: nothing else is left of what it
// has not had.
func (r *Room) Purged(marker room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restart(gap{reason: room.Truncated, after: r.head, goesOn: marker, purge: true}, false)
}

// restart empties the ring and lets the room go on after a gap.
func (r *Room) restart(g gap, torn bool) {
	if r.head.Epoch != g.goesOn.Epoch {
		for _, c := range r.members { // who was there came before whatever the other log has
			c.joined = 0
		}
	}
	r.head, r.known, r.last = g.goesOn, g.goesOn, time.Now()
	r.movedOn()
	r.ring.clear(g.goesOn, torn)
	r.hub.shelf.drop(r)
	r.push(entry{gap: &g})
}

// keepFor is how many messages a ring keeps for each cursor once all have passed
// them: who comes back is likely to have been one of them.
const keepFor = 4

// push appends an entry to the ring and queues the parts.
func (r *Room) push(e entry) {
	if cursors, behind := r.cursors(); !behind {
		r.ring.trim(keepFor * uint64(cursors)) //nolint:gosec // a count
	}
	r.ring.push(e)
	if !r.warm {
		r.warm = true
		r.hub.keepWarm(r)
	}
	for _, p := range r.parts {
		p.news()
	}
}

// cool empties the ring if no message has come for a while and every cursor is
// current. It reports whether the room's ring is empty.
func (r *Room) cool(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, behind := r.cursors(); !r.ended && (now.Sub(r.last) < idleAfter || behind) {
		return false
	}
	r.ring.shrink()
	r.warm = r.ring.first != r.ring.end
	return !r.warm
}

// cursors counts those of the room, and reports whether one may not have been given
// all that the ring holds.
func (r *Room) cursors() (all int, behind bool) {
	for _, n := range r.formats {
		all += n
	}
	walking := 0
	for _, p := range r.parts {
		behind = behind || p.queued || p.walked.Load()
		walking += len(p.cursors)
	}
	return all, behind || walking < all
}

// part returns the part of a lane.
func (r *Room) part(l *Lane) *Part {
	for _, p := range r.parts {
		if p.lane == l {
			return p
		}
	}
	p := &Part{room: r, lane: l}
	r.parts = append(r.parts, p)
	return p
}

// join adds a cursor after a position.
func (r *Room) join(after room.Position, sub Subscriber) (*Cursor, room.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Cursor{sub: sub, part: r.part(sub.Lane()), format: sub.Format(), index: notWalking, member: notMember}
	c.spot = spot{next: r.ring.end, at: r.head}
	r.formats[c.format]++
	switch {
	case after.IsZero():
		return c, r.head
	case !r.Policy.Stored():
		c.resume = &resume{}
		c.spot.pending = &gap{reason: room.Reset} // an ephemeral room has no positions
		return c, room.Position{}
	}
	c.resume = &resume{head: r.head}
	c.spot.at, c.spot.place, c.reading = after, inLog, true
	if next, ok := r.ring.find(after); ok {
		c.spot.place, c.spot.next, c.reading = inRing, next, false
	}
	return c, after
}
