package hub

import (
	"time"

	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// entry is one message with its finished frames, or a gap that every cursor passes in
// its place.
type entry struct {
	msg    *room.Message           // nil: a gap
	gap    *gap                    // nil: a message
	frames [wire.Formats][2][]byte // by format; live, or for those who came after the message. Made when first needed
}

// gap tells that messages may be missing after a position.
type gap struct {
	reason room.GapReason
	after  room.Position
	goesOn room.Position // where the room goes on; zero: the next message tells
	purge  bool          // those whose next message has left the ring by it pass it, too
}

// from returns the gap as it is for who stands at a position. Who resumed ahead of this
// node may have passed all that it hides, if that is known; none is led back by it.
func (g *gap) from(pos room.Position) (told gap, passed bool) {
	told = *g
	told.after = pos
	if g.reason != room.Truncated || pos.Epoch != g.goesOn.Epoch || pos.Seq <= g.after.Seq || pos.Seq < g.goesOn.Seq {
		return told, false
	}
	told.goesOn = pos
	return told, g.goesOn.Seq > g.after.Seq // else it hides what is before the next message
}

// frame returns the message's finished frame.
func (e *entry) frame(f wire.Format, replayed bool) []byte {
	kind := 0
	if replayed {
		kind = 1
	}
	if e.frames[f][kind] == nil {
		e.frames[f][kind] = wire.MessageFrame(f, e.msg, replayed)
	}
	return e.frames[f][kind]
}

// withheld reports whether user must not see the message, or nobody any more at now.
func (e *entry) withheld(user func() string, now time.Time) bool {
	return e.msg.Expired(now) || e.msg.ExcludeUser != "" && e.msg.ExcludeUser == user()
}

// bytes is what the entry counts for: its frames, made or not.
func (e *entry) bytes() int {
	if e.gap != nil {
		return 0
	}
	n := 0
	for f := range e.frames {
		for _, frame := range e.frames[f] {
			n += len(frame)
		}
	}
	return max(n, len(e.msg.Payload.Bytes))
}

// ring is the tail of a room's log. Entries are numbered from 0 for the life of the
// room; first is the oldest that is kept. The zero ring is empty and holds nothing.
type ring struct {
	slots       []entry // its length is a power of two, or 0
	first, end  uint64  // entries kept: first <= n < end
	bytes       int
	floor       room.Position // everything in the log after this is in the ring
	torn        bool          // messages may be missing between floor and the first message
	maxMessages uint64
	maxBytes    int
}

func (g *ring) at(n uint64) *entry { return &g.slots[n&(g.size()-1)] }

func (g *ring) size() uint64 { return uint64(len(g.slots)) }

// push appends an entry and drops the oldest ones over the bounds; the newest stays.
func (g *ring) push(e entry) {
	if g.end-g.first == g.maxMessages {
		g.drop()
	}
	if g.end-g.first == g.size() {
		g.grow()
	}
	*g.at(g.end) = e
	g.end++
	g.bytes += e.bytes()
	for g.end-g.first > 1 && g.bytes > g.maxBytes {
		g.drop()
	}
}

// frame returns the frame of entry n, a message, and counts it if it is made now.
func (g *ring) frame(n uint64, f wire.Format, replayed bool) []byte {
	e := g.at(n)
	before := e.bytes()
	frame := e.frame(f, replayed)
	g.bytes += e.bytes() - before
	return frame
}

// drop forgets the oldest entry.
func (g *ring) drop() {
	old := g.at(g.first)
	g.bytes -= old.bytes()
	if old.msg != nil {
		g.floor, g.torn = old.msg.Position, false
	}
	*old = entry{}
	g.first++
}

func (g *ring) grow() {
	slots := make([]entry, max(1, 2*len(g.slots)))
	mask := uint64(len(slots)) - 1
	for n := g.first; n < g.end; n++ {
		slots[n&mask] = *g.at(n)
	}
	g.slots = slots
}

// clear forgets all entries; the room goes on after floor. torn says that messages
// between floor and the next one may be missing.
func (g *ring) clear(floor room.Position, torn bool) {
	g.slots, g.first, g.bytes, g.floor, g.torn = nil, g.end, 0, floor, torn
}

// trim forgets the oldest entries down to n.
func (g *ring) trim(n uint64) {
	for g.end-g.first > n {
		g.drop()
	}
}

// shrink forgets all entries: the log has them, and tells the gap too.
func (g *ring) shrink() {
	g.trim(0)
	g.slots = nil
}

// purged reports whether the ring begins with a purge.
func (g *ring) purged() bool {
	return g.first < g.end && g.at(g.first).gap != nil && g.at(g.first).gap.purge
}

// message returns the number of the first message, or the end: a gap before it is
// passed only by those who were there.
func (g *ring) message() uint64 {
	first := g.first
	for first < g.end && g.at(first).gap != nil {
		first++
	}
	return first
}

// find returns the number of the first entry after pos, if the ring proves that
// nothing between pos and that entry is missing.
func (g *ring) find(pos room.Position) (next uint64, ok bool) {
	if pos.Epoch != g.floor.Epoch || pos.Seq < g.floor.Seq {
		return 0, false
	}
	first := g.message()
	if g.torn && (first == g.end || pos.Seq < g.at(first).msg.Position.Seq) {
		return 0, false
	}
	if pos.Moment != 0 { // that it is a moment of this log only the log can tell, unless it is ours
		return first, pos.Seq == g.floor.Seq && pos.Moment == g.floor.Moment
	}
	if pos.Seq == g.floor.Seq {
		return first, pos.Check == g.floor.Check || pos.IsWatermark()
	}
	// Newest first: most who resume are only a little behind.
	for n := g.end; n > first; n-- {
		p := g.at(n - 1).msg.Position
		switch {
		case p.Seq > pos.Seq:
		case p.Seq == pos.Seq:
			return n, p.Check == pos.Check || pos.IsWatermark()
		default:
			return n, pos.IsWatermark() && n < g.end // above the head only the log can tell
		}
	}
	return first, pos.IsWatermark() && first < g.end
}
