package chaos

import (
	"fmt"
	"maps"
	"slices"
)

// Fault is one broken promise.
type Fault struct {
	What   What
	Socket int // -1: it is of a publication or of the log
	Room   string
	Detail string
	at     int // the event of the socket
}

// What names a broken promise.
type What string

// The promises that a run can break.
const (
	SilentGap     What = "silent gap"            // a message did not come, another after it did
	LostTail      What = "lost tail"             // nothing came after a place in the log
	Twice         What = "delivered twice"       //
	Reordered     What = "out of order"          // it came after one that follows it
	WrongRoom     What = "wrong room"            // it is another room's, or the room is not subscribed
	NotInLog      What = "not in the log"        // nobody stored it
	BadGap        What = "gap without a reason"  //
	LateStart     What = "late start"            // "from now on" began after messages that came later
	NotAcked      What = "never acknowledged"    //
	AckedLost     What = "acknowledged and lost" //
	StoredTwice   What = "stored twice"          //
	AckedWrong    What = "acknowledged as another"
	BatchReorder  What = "a batch or stream out of order"
	NotPublished  What = "in the log, never published"
	NeverFinished What = "not subscribed at the end"
)

// Check judges a story: what is broken, in no particular order but always the same.
// Each rule is one function; none looks at what another found.
func Check(s *Story) []Fault {
	c := newChecker(s)
	c.checkPublications()
	c.checkOrderOfCalls()
	for i, events := range s.Sockets {
		c.checkSocket(i, events)
	}
	return c.faults
}

// checker holds the log that every socket is compared with.
type checker struct {
	story  *Story
	rooms  map[string]*history
	roomOf map[string]string // by message id
	faults []Fault
}

// history is all that was ever stored in a room, in order: what the log has at the
// end, and what it had and its limits pushed out, as publishers were told.
type history struct {
	name    string
	keeps   int // messages that the log keeps for replay
	entries []stored
	bySeq   map[uint64]int
}

type stored struct {
	place
	Entry
	began int64 // when its publication began; -1: unknown
}

func newChecker(s *Story) *checker {
	c := &checker{story: s, rooms: make(map[string]*history), roomOf: make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(s.Log.Rooms)) {
		for _, e := range s.Log.Rooms[name] {
			c.add(name, e, -1)
			c.roomOf[e.ID] = name
		}
	}
	for _, p := range s.Publications {
		if p.ID != "" {
			c.add(p.Room, Entry{p.ID, p.Text}, int64(p.Began))
		}
	}
	for _, h := range c.rooms {
		slices.SortFunc(h.entries, func(a, b stored) int { return int(a.seq) - int(b.seq) })
		for i, e := range h.entries {
			h.bySeq[e.seq] = i
		}
	}
	return c
}

func (c *checker) fault(what What, socket int, room string, at int, format string, args ...any) {
	c.faults = append(c.faults, Fault{what, socket, room, fmt.Sprintf(format, args...), at})
}

// add adds an entry of the log, or an acknowledgement of one that may have left it.
func (c *checker) add(room string, e Entry, began int64) {
	h := c.rooms[room]
	if h == nil {
		h = &history{name: room, keeps: c.story.Log.Keeps(room), bySeq: make(map[uint64]int)}
		c.rooms[room] = h
	}
	p, err := parsePlace(e.ID)
	if err != nil {
		c.fault(NotInLog, -1, room, 0, "%v", err)
		return
	}
	if i, known := h.bySeq[p.seq]; known {
		h.entries[i].began = began
		return
	}
	h.bySeq[p.seq] = len(h.entries)
	h.entries = append(h.entries, stored{p, e, began})
}

// after returns the index of the first message after a place.
func (h *history) after(seq uint64) int {
	i, found := slices.BinarySearchFunc(h.entries, seq, func(e stored, seq uint64) int { return int(e.seq) - int(seq) })
	if found {
		i++
	}
	return i
}

// checkPublications: every publication was acknowledged, is in the log exactly once,
// and there under the id that was told; nothing else is in the log. Only a room that
// has all the messages that it keeps may have lost older ones.
func (c *checker) checkPublications() {
	found := make(map[string][]string) // ids by body
	for _, room := range slices.Sorted(maps.Keys(c.story.Log.Rooms)) {
		for _, e := range c.story.Log.Rooms[room] {
			found[room+"\x00"+e.Text] = append(found[room+"\x00"+e.Text], e.ID)
		}
	}
	for _, p := range c.story.Publications {
		key := p.Room + "\x00" + p.Text
		ids := found[key]
		delete(found, key)
		switch {
		case p.ID == "":
			c.fault(NotAcked, -1, p.Room, 0, "%q after %d attempts", p.Text, p.Attempts)
		case len(ids) > 1:
			c.fault(StoredTwice, -1, p.Room, 0, "%q as %s", p.Text, ids)
		case len(ids) == 0 && !c.pushedOut(p):
			c.fault(AckedLost, -1, p.Room, 0, "%q was acknowledged as %s (duplicate %t)", p.Text, p.ID, p.Duplicate)
		case len(ids) == 1 && ids[0] != p.ID:
			c.fault(AckedWrong, -1, p.Room, 0, "%q was acknowledged as %s and is in the log as %s", p.Text, p.ID, ids[0])
		}
	}
	for key, ids := range found {
		c.fault(NotPublished, -1, "", 0, "%q as %s", key, ids)
	}
}

// pushedOut reports whether newer messages may have pushed a publication out.
func (c *checker) pushedOut(p Publish) bool {
	left := c.story.Log.Rooms[p.Room]
	if len(left) <= c.rooms[p.Room].keeps {
		return false
	}
	oldest, _ := parsePlace(left[0].ID)
	own, err := parsePlace(p.ID)
	return err == nil && own.epoch == c.story.Log.Epoch(p.Room) && own.seq < oldest.seq
}

// checkOrderOfCalls: what one batch or stream was acknowledged for the first time
// stands in each room in the order in which it was sent.
func (c *checker) checkOrderOfCalls() {
	type lane struct {
		call int
		room string
	}
	last := make(map[lane]Publish)
	for _, p := range c.story.Publications {
		if p.Call == 0 || p.ID == "" || p.Duplicate {
			continue
		}
		at := lane{p.Call, p.Room}
		if before, ok := last[at]; ok {
			a, _ := parsePlace(before.ID)
			b, _ := parsePlace(p.ID)
			if a.seq >= b.seq {
				c.fault(BatchReorder, -1, p.Room, 0, "%q (%s) was sent before %q (%s)", before.Text, before.ID, p.Text, p.ID)
			}
		}
		last[at] = p
	}
}

// checkSocket follows a socket through its rooms. From its first position in a room on
// it must see the room's messages one after the other, over all its connections; a gap
// frame with a reason lets it skip some.
func (c *checker) checkSocket(socket int, events []Event) {
	walks := make(map[string]*walk)
	for i, e := range events {
		switch e.Kind {
		case Asked, Left, Subscribed, Unsubscribed, Message, Gap:
		case Connected, Closed:
			for _, w := range walks {
				w.open = false
			}
			continue
		default:
			continue
		}
		w := walks[e.Room]
		if w == nil {
			h := c.rooms[e.Room]
			if h == nil {
				h = &history{name: e.Room, keeps: c.story.Log.Keeps(e.Room)}
			}
			w = &walk{checker: c, socket: socket, history: h, seen: make(map[int]bool)}
			walks[e.Room] = w
		}
		w.take(i, e)
	}
	for _, name := range slices.Sorted(maps.Keys(walks)) {
		walks[name].end(len(events) - 1)
	}
}

// walk is one socket's way through one room.
type walk struct {
	*checker
	*history
	socket  int
	open    bool // subscribed on the present connection
	started bool
	next    int    // index of the message that must come next
	stands  uint64 // the sequence of the last place
	free    bool   // a gap was told: any later message may come next
	seen    map[int]bool
}

func (w *walk) bad(what What, at int, format string, args ...any) {
	w.fault(what, w.socket, w.name, at, format, args...)
}

func (w *walk) take(at int, e Event) {
	switch e.Kind {
	case Subscribed:
		w.open = true
		w.subscribed(at, e)
	case Unsubscribed:
		w.open = false
	case Message:
		if !w.open {
			w.bad(WrongRoom, at, "%s came while the room was not subscribed", e.ID)
			return
		}
		w.message(at, e)
	case Gap:
		w.gap(at, e)
	default:
	}
}

// subscribed: the first answer says where the walk begins. What was published after it
// must come.
func (w *walk) subscribed(at int, e Event) {
	p, err := parsePlace(e.ID)
	switch {
	case err != nil:
		w.bad(NotInLog, at, "subscribed: %v", err)
	case w.started:
		// What the server says of a resumed place is not believed: the messages tell.
	default:
		w.started, w.stands, w.next = true, p.seq, w.after(p.seq)
		for _, m := range w.entries[:w.next] {
			if m.began > int64(e.At) {
				w.bad(LateStart, at, "it begins after %s, which was published later", m.ID)
			}
		}
	}
}

func (w *walk) message(at int, e Event) {
	p, err := parsePlace(e.ID)
	i, known := w.bySeq[p.seq]
	switch {
	case err != nil:
		w.bad(NotInLog, at, "%v", err)
		return
	case !known || w.entries[i].epoch != p.epoch || w.entries[i].check != "" && w.entries[i].check != p.check:
		if other := w.roomOf[e.ID]; other != "" {
			w.bad(WrongRoom, at, "%s is of room %s", e.ID, other)
			return
		}
		if !known && w.storedBefore(p, e.Text) {
			return
		}
		w.bad(NotInLog, at, "%s %q", e.ID, e.Text)
		return
	case w.entries[i].Text != e.Text:
		w.bad(NotInLog, at, "%s has the body %q, in the log %q", e.ID, e.Text, w.entries[i].Text)
	case w.seen[i]:
		w.bad(Twice, at, "%s", e.ID)
	case i < w.next:
		w.bad(Reordered, at, "%s after %d", e.ID, w.stands)
	case i > w.next && !w.free:
		w.bad(SilentGap, at, "%d messages are missing before %s, the first is %s %q",
			i-w.next, e.ID, w.entries[w.next].ID, w.entries[w.next].Text)
	}
	w.seen[i], w.free = true, false
	if i >= w.next {
		w.next, w.stands = i+1, p.seq
	}
}

// storedBefore reports whether a message may be a publication's first attempt: stored,
// not acknowledged, and pushed out of a short history before the publisher tried again.
// A restart of NATS rebuilds the message ids that it knows from what the log still has,
// so the second attempt was stored, too.
func (w *walk) storedBefore(p place, text string) bool {
	for _, m := range w.story.Publications {
		again, err := parsePlace(m.ID)
		if m.Room == w.name && m.Text == text && m.Attempts > 1 && err == nil && again.seq > p.seq {
			m.ID = fmt.Sprintf("%s.%d.%s", p.epoch, p.seq, p.check)
			return w.pushedOut(m)
		}
	}
	return false
}

// gap: TRUNCATED is justified if the place has left the history: more messages follow
// it than the room keeps. RESET would be if the log were another one at the end, and
// OVERFLOW never is in a stored room.
func (w *walk) gap(at int, e Event) {
	justified := false
	switch e.Text {
	case "TRUNCATED":
		later := 0
		for _, m := range w.entries[w.next:] {
			if m.began <= int64(e.At) {
				later++
			}
		}
		justified = later > w.keeps
	case "RESET":
		p, err := parsePlace(e.ID)
		justified = err == nil && p.epoch != w.story.Log.Epoch(w.name)
	}
	if !justified {
		w.bad(BadGap, at, "%s after %s; the socket stood at %d and %d messages followed in all", e.Text, e.ID, w.stands, len(w.entries)-w.next)
	}
	w.free = true
}

// end: all that the log has must have come, and the room must be open.
func (w *walk) end(at int) {
	if !w.open {
		w.bad(NeverFinished, at, "the last place was %d", w.stands)
		return
	}
	if w.free && w.next < len(w.entries) {
		w.next = len(w.entries) - 1 // a gap lets it skip all but what came after
	}
	if w.next < len(w.entries) {
		w.bad(LostTail, at, "the last %d messages, the first is %s", len(w.entries)-w.next, w.entries[w.next].ID)
	}
}
