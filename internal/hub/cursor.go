package hub

import (
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// place says where a cursor is served from.
type place uint8

const (
	inRing place = iota // from the room's ring, at next
	inLog               // from the log, after at
)

// Cursor is one subscriber's place in one room. Start, Take, Refill and At are
// called by the subscriber's writer only; Leave by anyone.
type Cursor struct {
	// static
	hub  *Hub
	room *Room
	sub  Subscriber

	replayTo room.Position // static after join: messages up to this sequence are older than the subscription

	// guarded by room.mu
	place     place
	next      uint64         // inRing: the entry to deliver next
	at        room.Position  // the newest position that the subscriber has passed
	pending   room.GapReason // tell this gap before the next entry
	pendingAt room.Position  // where the room goes on after it
	started   bool
	queued    bool // Behind has been called and Take has not found it current since
	left      bool
	stuck     time.Time // inLog: since when the log has shown nothing between at and the ring
}

// State says what a Take leaves.
type State uint8

// The states of a cursor.
const (
	Current State = iota // nothing more now; Behind will be called
	More                 // more is in the ring
	InLog                // read the log after At and call Refill
)

// Room returns the cursor's room.
func (c *Cursor) Room() room.Name { return c.room.Name }

// Start lets the cursor deliver. The subscriber calls it once its answer to the
// subscribe request is queued.
func (c *Cursor) Start() {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.started = true
	if c.place == inLog || c.pending != "" || c.next != c.room.ring.end {
		c.markBehindLocked()
	}
}

func (c *Cursor) markBehindLocked() {
	if !c.started || c.queued || c.left {
		return
	}
	c.queued = true
	c.sub.Behind(c)
}

// At returns the newest position that the subscriber has passed.
func (c *Cursor) At() room.Position {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	return c.at
}

// Take appends to dst the frames that the cursor is behind by, at most limit, and
// moves it past them. What its user must not see, or whose ttl has passed at now, is
// passed silently. The frames are shared: they must not be changed.
func (c *Cursor) Take(dst [][]byte, limit int, now time.Time) ([][]byte, State) {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.left {
		return dst, Current
	}
	if c.pending != "" {
		dst = append(dst, c.gapFrame(c.pending, c.at, c.pendingAt))
		c.pending, c.at = "", c.pendingAt
	}
	if c.place == inRing && c.next < r.ring.first {
		if r.Policy.Stored() {
			c.place = inLog
		} else {
			dst = append(dst, c.gapFrame(room.Overflow, room.Position{}, room.Position{}))
			c.next = r.ring.first
		}
	}
	if c.place == inLog {
		return dst, InLog
	}
	for ; c.next < r.ring.end; c.next++ {
		if len(dst) >= limit {
			return dst, More
		}
		e := r.ring.at(c.next)
		if p := e.msg.Position; !p.IsZero() && p.Epoch == c.at.Epoch && p.Seq <= c.at.Seq {
			continue // it resumed ahead of this node
		}
		c.at = e.msg.Position
		if !c.withheld(e.msg, now) {
			dst = append(dst, e.frame(c.replays(e.msg)))
			r.cfg.Metrics.Deliveries.Inc()
		}
	}
	c.queued = false
	return dst, Current
}

// replays reports whether the message is older than the subscription.
func (c *Cursor) replays(m *room.Message) bool {
	return m.Position.Epoch == c.replayTo.Epoch && m.Position.Seq <= c.replayTo.Seq && !c.replayTo.IsZero()
}

func (c *Cursor) withheld(m *room.Message, now time.Time) bool {
	return m.Expired(now) || m.ExcludeUser != "" && m.ExcludeUser == c.sub.User()
}

// patience is how long a cursor that the log shows nothing new to waits for it: a
// replica may be behind the leader whose messages are in the ring.
const patience = 2 * time.Second

// Refill takes a page that was read after At and appends its frames to dst. It
// brings the cursor back to the ring once the page reaches it. progress is false if
// the log has to be asked again after a pause.
func (c *Cursor) Refill(dst [][]byte, page room.Page, now time.Time) (frames [][]byte, progress bool) {
	frames = c.encode(page, now) // not under the lock
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.left {
		return dst, true
	}
	if page.Gap == room.Reset {
		dst = append(dst, c.gapFrame(room.Reset, c.at, r.head))
		c.attach(r.ring.end, r.head)
		return dst, true
	}
	if page.Gap == room.Truncated {
		var stands room.Position // the next message tells
		if page.Last.IsZero() {
			stands = r.ring.floor
		}
		dst = append(dst, c.gapFrame(room.Truncated, c.at, stands))
	}
	dst = append(dst, frames...)
	r.cfg.Metrics.Deliveries.Add(float64(len(frames)))
	progress = page.Gap != "" || page.Last.Seq > c.at.Seq
	if !page.Last.IsZero() {
		c.at = page.Last
	} else if page.Gap != "" {
		c.attach(r.ring.first, r.ring.floor) // nothing is left of what was before the ring
		return dst, true
	}
	if next, ok := r.ring.find(c.at); ok {
		c.attach(next, c.at)
		return dst, true
	}
	if !page.More && c.at.Epoch == r.head.Epoch && c.at.Seq >= r.head.Seq {
		c.attach(r.ring.end, c.at) // the log is ahead of this node
		return dst, true
	}
	if progress || page.More {
		c.stuck = time.Time{}
		return dst, true
	}
	return c.waitForLog(dst, now)
}

// encode makes the frames of a page for this subscriber.
func (c *Cursor) encode(page room.Page, now time.Time) [][]byte {
	frames := make([][]byte, 0, len(page.Messages))
	for _, m := range page.Messages {
		if !c.withheld(m, now) {
			frames = append(frames, wire.MessageFrame(wire.JSON, m, c.replays(m)))
		}
	}
	return frames
}

// waitForLog gives a log that is behind the ring time to catch up; then what is
// between must have left it.
func (c *Cursor) waitForLog(dst [][]byte, now time.Time) ([][]byte, bool) {
	if c.stuck.IsZero() {
		c.stuck = now
	}
	if now.Sub(c.stuck) < patience {
		return dst, false
	}
	dst = append(dst, c.gapFrame(room.Truncated, c.at, c.room.ring.floor))
	c.attach(c.room.ring.first, c.room.ring.floor)
	return dst, true
}

func (c *Cursor) attach(next uint64, at room.Position) {
	c.place, c.next, c.at, c.stuck = inRing, next, at, time.Time{}
}

// Leave ends the cursor: no Take yields frames after it. It may be called again.
func (c *Cursor) Leave() {
	c.room.mu.Lock()
	if c.left {
		c.room.mu.Unlock()
		return
	}
	c.left = true
	delete(c.room.cursors, c)
	c.room.mu.Unlock()
	c.hub.release(c.room)
}

// gapFrame encodes a gap: messages may be missing after a position; the subscriber
// stands at now.
func (c *Cursor) gapFrame(reason room.GapReason, after, now room.Position) []byte {
	c.room.cfg.Metrics.Gaps.WithLabelValues(string(reason)).Inc()
	return wire.ServerFrame(wire.JSON, &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Gap{Gap: &roomcastv1.Gap{
		Room: string(c.room.Name), After: after.String(), Reason: string(reason), Position: now.String(),
	}}})
}
