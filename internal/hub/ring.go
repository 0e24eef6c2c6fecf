package hub

import (
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// entry is one message in a ring, with its finished frames.
type entry struct {
	msg    *room.Message
	live   []byte // for those who were subscribed before the message
	replay []byte // for those who came after it; made when first needed
}

func newEntry(m *room.Message) entry {
	return entry{msg: m, live: wire.MessageFrame(wire.JSON, m, false)}
}

// frame returns the entry's finished frame.
func (e *entry) frame(replayed bool) []byte {
	if !replayed {
		return e.live
	}
	if e.replay == nil {
		e.replay = wire.MessageFrame(wire.JSON, e.msg, true)
	}
	return e.replay
}

// ring is the tail of a room's log. Entries are numbered from 0 for the life of the
// room; first is the oldest that is kept. The zero ring is empty and holds nothing.
type ring struct {
	slots       []entry // its length is a power of two, or 0
	first, end  uint64  // entries kept: first <= n < end
	bytes       int
	floor       room.Position // everything in the log after this is in the ring
	torn        bool          // messages may be missing between floor and the first entry
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
	g.bytes += len(e.live)
	for g.end-g.first > 1 && g.bytes > g.maxBytes {
		g.drop()
	}
}

// drop forgets the oldest entry.
func (g *ring) drop() {
	old := g.at(g.first)
	g.bytes -= len(old.live)
	g.floor, g.torn = old.msg.Position, false
	*old = entry{}
	g.first++
}

func (g *ring) grow() {
	slots := make([]entry, max(4, 2*len(g.slots)))
	mask := uint64(len(slots)) - 1
	for n := g.first; n < g.end; n++ {
		slots[n&mask] = *g.at(n)
	}
	g.slots = slots
}

// clear forgets all entries; the room goes on after floor. torn says that messages
// between floor and the next entry may be missing.
func (g *ring) clear(floor room.Position, torn bool) {
	g.slots, g.first, g.bytes, g.floor, g.torn = nil, g.end, 0, floor, torn
}

// find returns the number of the first entry after pos, if the ring proves that
// nothing between pos and that entry is missing.
func (g *ring) find(pos room.Position) (next uint64, ok bool) {
	if pos.Epoch != g.floor.Epoch || pos.Seq < g.floor.Seq {
		return 0, false
	}
	if g.torn && (g.first == g.end || pos.Seq < g.at(g.first).msg.Position.Seq) {
		return 0, false
	}
	if pos.Seq == g.floor.Seq {
		return g.first, pos.Check == g.floor.Check || pos.IsWatermark()
	}
	// Newest first: most who resume are only a little behind.
	for n := g.end; n > g.first; n-- {
		p := g.at(n - 1).msg.Position
		switch {
		case p.Seq > pos.Seq:
		case p.Seq == pos.Seq:
			return n, p.Check == pos.Check || pos.IsWatermark()
		default:
			return n, pos.IsWatermark() && n < g.end // above the head only the log can tell
		}
	}
	return g.first, pos.IsWatermark() && g.first < g.end
}
