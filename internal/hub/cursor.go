package hub

import (
	"sync/atomic"
	"time"

	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// Subscriber is who owns cursors: a socket. All its cursors are of one lane.
type Subscriber interface {
	// User is whose socket it is, for exclude_user and for those who ask who is there.
	User() string
	// Connection names the socket in the cluster; empty if it is none: then its cursors
	// are no members of their rooms.
	Connection() string
	// Format is how its frames are written.
	Format() wire.Format
	// Lane serves its cursors.
	Lane() *Lane
	// Deliver takes frames of a cursor's room, in order, and returns how many it took;
	// fewer than all means that it is full. It is called by the lane's goroutine
	// without a lock. The frames are shared and must not be changed, their slice must
	// not be kept. It takes none of a cursor that has left.
	Deliver(c *Cursor, frames [][]byte) int
	// Behind says that a cursor needs a turn of its own: the lane's goroutine is to
	// call [Lane.Serve] once the subscriber is not full. It may be called with the
	// room's lock held: it must not block and not call back.
	Behind(c *Cursor)
}

// Cursor is one subscriber's place in one room. Start and Leave are called by the
// subscriber, everything else happens in its lane.
type Cursor struct {
	// static
	sub    Subscriber
	part   *Part
	format wire.Format

	left atomic.Bool

	// guarded by the room's lock
	index   int32  // in part.cursors, or notWalking
	member  int32  // in room.members, or notMember
	since   uint32 // when it became a member: sinceUnits after Hub.begun
	reading bool   // it is served from the log
	joined  uint64 // the head's sequence then

	// owned by the lane's goroutine after Start
	spot   spot
	slow   bool    // its subscriber was full and it has not been current since
	resume *resume // nil: there is nothing special about what comes next
}

const (
	notWalking = -1
	notMember  = -1
)

// place says where a cursor is served from.
type place uint8

const (
	inRing place = iota // from the room's ring, at next
	inLog               // from the log, after at
)

// spot is how far a cursor has come.
type spot struct {
	next    uint64        // inRing: the entry to deliver next
	at      room.Position // the newest position that the subscriber has passed
	pending *gap          // tell this before anything else
	place   place
	told    bool // inLog: the gap at this place has been told
}

// resume is what a cursor needs while it is not simply live.
type resume struct {
	head     room.Position // messages up to it are older than the subscription
	shared   bool          // the page that was asked for last may be one for another place
	lag      uint64        // how far behind the head it was when last looked at
	lost     uint8         // how many times in a row it was no nearer
	lookedAt time.Time
}

// Room returns the cursor's room.
func (c *Cursor) Room() room.Name { return c.part.room.Name }

// User returns whose cursor it is.
func (c *Cursor) User() string { return c.sub.User() }

// Left reports whether Leave has been called: nothing of the room may follow.
func (c *Cursor) Left() bool { return c.left.Load() }

// At returns the newest position that the subscriber has passed. It is for the lane's
// goroutine.
func (c *Cursor) At() room.Position { return c.spot.at }

// Start lets the cursor deliver. The subscriber calls it once its answer to the
// subscribe request is queued.
func (c *Cursor) Start() {
	r := c.part.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.left.Load() {
		return
	}
	r.enter(c)
	if c.resume == nil && c.spot.next == r.ring.end {
		c.part.add(c)
	} else {
		c.sub.Behind(c)
	}
}

// Leave ends the cursor: Deliver is not called for it any more, but for a call that
// has begun. It may be called again.
func (c *Cursor) Leave() { c.leave(room.Unsubscribed, nil) }

// Close is Leave because the subscriber has ended.
func (c *Cursor) Close() { c.leave(room.Closed, nil) }

// Succeed has c take the place of another cursor of its subscriber and room, which
// leaves: the subscriber was and stays a member. It comes before c's Start.
func (c *Cursor) Succeed(old *Cursor) { old.leave("", c) }

func (c *Cursor) leave(why room.LeaveReason, next *Cursor) {
	if c.takeOut(why, next) {
		c.part.room.hub.release(c.part.room)
	}
}

// takeOut takes the cursor out of its room and reports whether it was there. Who is next,
// if anybody, is a member in its stead.
func (c *Cursor) takeOut(why room.LeaveReason, next *Cursor) bool {
	r := c.part.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.left.Swap(true) {
		return false
	}
	c.part.remove(c)
	r.formats[c.format]--
	if next != nil {
		r.succeed(c, next)
	} else {
		r.quit(c, why)
	}
	return true
}

// replayed reports whether a message is older than the subscription.
func (c *Cursor) replayed(m *room.Message) bool {
	return c.resume != nil && !c.resume.head.IsZero() &&
		m.Position.Epoch == c.resume.head.Epoch && m.Position.Seq <= c.resume.head.Seq
}

// passed reports whether the subscriber has seen a message: it resumed ahead of this
// node.
func (s *spot) passed(m *room.Message) bool {
	p := m.Position
	return !p.IsZero() && p.Epoch == s.at.Epoch && p.Seq <= s.at.Seq
}
