package hub

import (
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// plan is what one cursor gets in a turn of its own, frame by frame, with the spot
// that the cursor has after each: its subscriber may take fewer than all.
type plan struct {
	c     *Cursor
	room  *Room
	limit int // frames
	now   time.Time

	frames [][]byte
	after  []spot
	gaps   []room.GapReason // of each frame; empty = a message
	spot   spot             // after all of it, withheld messages too
	ahead  bool             // the cursor has seen more than this node
}

// goOn is the state of a plan that is not finished.
const goOn State = 0xFF

// make plans at most limit frames. It returns the cursor's state once they are
// delivered.
func (p *plan) make(c *Cursor, limit int, now time.Time) State {
	p.forget() // a turn that panicked may have left something
	p.c, p.room, p.limit, p.now, p.spot, p.ahead = c, c.part.room, limit, now, c.spot, false
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	if g := p.spot.pending; g != nil {
		p.spot.pending = nil
		p.tell(*g)
	}
	state := goOn
	for state == goOn {
		switch {
		case len(p.frames) >= limit:
			state = More
		case p.spot.place == inRing:
			state = p.fromRing()
		default:
			state = p.fromLog()
		}
	}
	c.reading = p.spot.place == inLog
	return state
}

// fromRing plans what the ring has.
func (p *plan) fromRing() State {
	g := &p.room.ring
	if p.spot.next < g.first {
		return p.fellOut()
	}
	for ; p.spot.next < g.end; p.spot.next++ {
		if len(p.frames) == p.limit {
			return More
		}
		e := g.at(p.spot.next)
		switch {
		case e.gap != nil:
			told, passed := e.gap.from(p.spot.at)
			if passed {
				continue
			}
			p.spot.next++
			p.spot.at = told.goesOn
			p.tell(told)
			return goOn
		case p.spot.passed(e.msg):
		case e.withheld(p.c.sub.User, p.now):
			p.spot.at = e.msg.Position
		default:
			p.add(g.frame(p.spot.next, p.c.format, p.c.replayed(e.msg)), e.msg.Position)
		}
	}
	p.ahead = p.spot.at.Epoch == p.room.head.Epoch && p.spot.at.Seq > p.room.head.Seq
	return Current
}

// add plans a message of the ring, the spot's next.
func (p *plan) add(frame []byte, at room.Position) {
	p.spot.at = at
	after := p.spot
	after.next++
	p.frames, p.after, p.gaps = append(p.frames, frame), append(p.after, after), append(p.gaps, "")
}

// fellOut decides about a cursor whose next message has left the ring.
func (p *plan) fellOut() State {
	if p.room.ring.purged() { // no fault of its own, and the log has no more
		p.spot.next = p.room.ring.first
		return goOn
	}
	if p.c.slow && p.room.Policy.Slow == room.SlowDisconnect {
		return TooSlow
	}
	if !p.room.Policy.Stored() {
		p.spot.next = p.room.ring.first
		p.tell(gap{reason: room.Overflow})
		return goOn
	}
	p.spot.place = inLog
	if p.c.resume == nil {
		p.c.resume = &resume{}
	}
	return goOn
}

// fromLog plans what a page of the log has, or asks for one.
func (p *plan) fromLog() State {
	if next, ok := p.room.ring.find(p.spot.at); ok {
		p.attach(next, p.spot.at)
		return goOn
	}
	pg, from := p.room.hub.shelf.find(p.room, p.spot.at)
	switch {
	case pg == nil:
		return p.ask()
	case pg.gap == room.Reset:
		before := p.spot.at
		p.attach(p.room.ring.end, p.room.head)
		p.tell(gap{reason: room.Reset, after: before, goesOn: p.room.head})
		return goOn
	case pg.gap != "" && pg.last.IsZero():
		return p.fromEmptied(pg)
	case pg.gap != "" && from == 0 && !p.spot.told:
		p.tellTruncated(pg)
		return goOn
	case len(pg.entries) > 0:
		return p.fromPage(pg, from)
	case pg.last != p.spot.at && !pg.last.IsZero():
		p.spot.at, p.spot.told = pg.last, false // nothing in it can be read
		return goOn
	case p.room.aheadLocked(p.spot.at):
		return p.ask() // there is news since the page was read
	}
	p.attach(p.room.ring.end, p.spot.at)
	return goOn
}

// tellTruncated plans the gap that a page of the log begins with.
func (p *plan) tellTruncated(pg *page) {
	g := gap{reason: room.Truncated, after: p.spot.at} // the next message tells where it goes on
	if len(pg.entries) == 0 {                          // there is none, such as after a purge
		g.goesOn = pg.last
	}
	p.spot.told = true
	p.tell(g)
}

// fromEmptied goes on where a log has nothing left of what was before the head: at the
// ring, unless that has lost something since.
func (p *plan) fromEmptied(pg *page) State {
	told, g := p.spot.told, gap{reason: room.Truncated, after: p.spot.at, goesOn: p.room.ring.floor}
	if g.goesOn.Epoch != pg.head.Epoch || g.goesOn.Seq > pg.head.Seq {
		return p.ask() // the log has what has been since
	}
	if p.spot.at.Epoch == g.goesOn.Epoch && p.spot.at.Seq > g.goesOn.Seq {
		g.goesOn = p.spot.at // nothing comes again
	}
	p.attach(p.room.ring.message(), g.goesOn)
	if !told {
		p.tell(g)
	}
	return goOn
}

// fromPage plans the entries of a page from one on.
func (p *plan) fromPage(pg *page, from int) State {
	p.c.resume.shared = false
	if from == len(pg.entries) {
		p.spot.at, p.spot.told = pg.last, false // what follows in it cannot be read
		return goOn
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	for i := from; i < len(pg.entries); i++ {
		if len(p.frames) == p.limit {
			return More
		}
		e := &pg.entries[i]
		p.spot.at, p.spot.told = e.msg.Position, false
		if i == len(pg.entries)-1 {
			p.spot.at = pg.last
		}
		if !e.withheld(p.c.sub.User, p.now) {
			p.frames = append(p.frames, e.frame(p.c.format, p.c.replayed(e.msg)))
			p.after, p.gaps = append(p.after, p.spot), append(p.gaps, "")
		}
	}
	return goOn
}

// attach leads the cursor back to the ring.
func (p *plan) attach(next uint64, at room.Position) {
	p.spot.place, p.spot.next, p.spot.at, p.spot.told = inRing, next, at, false
}

// ask has the log read for the cursor, unless there is something to deliver first.
func (p *plan) ask() State {
	switch {
	case len(p.frames) > 0:
		return More
	case !p.c.resume.gains(p.room.head, p.spot.at, p.now):
		return TooSlow
	}
	p.room.hub.reads.ask(p.room, p.spot.at, p.c, p.c.resume.shared)
	p.c.resume.shared = true // if the page does not have the place, one of its own is next
	return Waiting
}

// tell plans a gap frame.
func (p *plan) tell(g gap) {
	frame := wire.ServerFrame(p.c.format, &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Gap{Gap: &roomcastv1.Gap{
		Room: string(p.room.Name), After: g.after.String(), Reason: string(g.reason), Position: g.goesOn.String(),
	}}})
	p.frames, p.after, p.gaps = append(p.frames, frame), append(p.after, p.spot), append(p.gaps, g.reason)
}

// taken moves the cursor past the first n frames and returns how many of them are
// messages.
func (p *plan) taken(n int) uint64 {
	switch {
	case n == len(p.frames):
		p.c.spot = p.spot
	case n > 0:
		p.c.spot = p.after[n-1]
	}
	delivered := uint64(0)
	for _, reason := range p.gaps[:n] {
		if reason == "" {
			delivered++
		} else {
			p.room.hub.cfg.Metrics.Gaps.WithLabelValues(string(reason)).Inc()
		}
	}
	return delivered
}

func (p *plan) forget() {
	clear(p.frames)
	clear(p.after)
	p.frames, p.after, p.gaps = p.frames[:0], p.after[:0], p.gaps[:0]
	p.c, p.room, p.spot = nil, nil, spot{}
}

// A cursor that is served from the log must get nearer to its room's head. One that
// falls further behind in catchUpTries intervals in a row would never reach it.
const (
	catchUpTime  = time.Minute
	catchUpTries = 5
)

// gains reports whether a cursor at a position may go on reading the log.
func (u *resume) gains(head, at room.Position, now time.Time) bool {
	lag := uint64(0)
	if head.Epoch == at.Epoch && head.Seq > at.Seq {
		lag = head.Seq - at.Seq
	}
	switch {
	case u.lookedAt.IsZero():
	case now.Sub(u.lookedAt) < catchUpTime:
		return true
	case lag < u.lag:
		u.lost = 0
	default:
		u.lost++
	}
	u.lookedAt, u.lag = now, lag
	return u.lost < catchUpTries
}
