package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
)

// place is how far someone is in a room: the entries of the room's log number epoch
// below index.
type place struct{ epoch, index int }

func (p place) before(q place) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.index < q.index
}

// modelEntry is one record of a log.
type modelEntry struct {
	pos    room.Position
	msg    *room.Message // nil: nobody can read the record
	purged time.Time     // when the log lost it; zero: it has it
}

// modelEpoch is one life of a room's log. Nothing is ever taken out: what the log has
// lost is marked.
type modelEpoch struct {
	name    string
	entries []modelEntry
	first   int    // entries below it are purged
	seq     uint64 // of the stream, which other rooms use too

	// When a node is told that there is another log, the room may have messages up to
	// here that a replica does not show: who stands before gets a gap in the end, even
	// if there are none.
	cautious uint64
}

// after is the place behind a position, wherever that is.
func (e *modelEpoch) after(pos room.Position) int {
	n := len(e.entries)
	for n > 0 && e.entries[n-1].pos.Seq > pos.Seq {
		n--
	}
	return n
}

// modelRoom is a room as the cluster knows it, and what this node has been told.
type modelRoom struct {
	name   room.Name
	policy room.Policy
	epochs []*modelEpoch
	ids    map[string]place // of messages: the place of each, not the one behind it

	hub     *hub.Room       // nil while no socket here has the room
	told    int             // entries of the newest epoch that this node has been told
	head    room.Position   // of this node
	held    bool            // messages reach the log, but not this node
	replica int             // a lagging replica shows the entries below it; -1 = all
	fails   bool            // reads fail
	slow    time.Duration   // reads take so long
	caused  map[string]bool // gaps that reads have told: reason and position
	breaks  []modelBreak
}

func (m *modelRoom) epoch() *modelEpoch { return m.epochs[len(m.epochs)-1] }

// modelBreak is a gap that this node was told of.
type modelBreak struct {
	reason       room.GapReason
	before, head room.Position
}

// modelEvent is what a hub's room was told.
type modelEvent struct {
	room *modelRoom
	to   place
	head room.Position // after it
}

// modelLog is the bus of a model: rooms' logs with all that can befall them.
type modelLog struct {
	mu     sync.Mutex // guards all but what is atomic
	rng    *rand.Rand
	rooms  map[room.Name]*modelRoom
	list   []*modelRoom
	events []modelEvent
	next   int // number of the next message
	opens  bool
	stats  *modelStats

	// How many events a hub has begun and ended to hear. The checks take what lies
	// between for possible.
	begun, done atomic.Int64
}

// modelRooms are the rooms of a model.
var modelRooms = []room.Name{"a", "chat:b", "strict:c", "eph:d", "brief:e"}

func modelPolicies() (*room.Policies, error) {
	eph, chat, strict, brief := room.DefaultPolicy(), room.DefaultPolicy(), room.DefaultPolicy(), room.DefaultPolicy()
	eph.History.Size, brief.History.Size = 0, 0
	strict.Slow, brief.Slow = room.SlowDisconnect, room.SlowDisconnect
	chat.ClientPublish, eph.ClientPublish = true, true
	return room.NewPolicies(map[string]room.Policy{"eph": eph, "chat": chat, "strict": strict, "brief": brief})
}

func newModelLog(rng *rand.Rand, policies *room.Policies, stats *modelStats) *modelLog {
	l := &modelLog{rng: rng, rooms: make(map[room.Name]*modelRoom), stats: stats}
	for _, name := range modelRooms {
		m := &modelRoom{
			name: name, policy: *policies.Of(name), ids: make(map[string]place), replica: -1, caused: make(map[string]bool),
			epochs: []*modelEpoch{{name: "e0", seq: uint64(rng.IntN(20))}},
		}
		l.rooms[name], l.list = m, append(l.list, m)
	}
	return l
}

// Listen opens a room where its log ends, now or a little later.
func (l *modelLog) Listen(r *hub.Room) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, stopped := l.rooms[r.Name], false
	delay := time.Duration(0)
	if l.opens && l.rng.IntN(3) == 0 {
		delay = time.Duration(l.rng.IntN(2000)) * time.Millisecond
	}
	go func() {
		if delay > 0 {
			<-time.After(delay)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if stopped {
			return
		}
		m.hub = r
		m.head = room.Position{}
		e := m.epoch()
		m.told = len(e.entries)
		if m.policy.Stored() {
			m.head = room.Position{Epoch: e.name, Seq: e.seq}
			if n := len(e.entries); n > e.first {
				m.head = e.entries[n-1].pos
			}
		}
		l.tell(m, func() { r.Opened(m.head) })
	}()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		stopped = true
		if m.hub == r {
			m.hub = nil
		}
	}
}

// tell notes one event around the call that makes it.
func (l *modelLog) tell(m *modelRoom, call func()) {
	l.events = append(l.events, modelEvent{room: m, to: place{len(m.epochs) - 1, m.told}, head: m.head})
	l.begun.Store(int64(len(l.events)))
	if m.hub != nil {
		call()
	}
	l.done.Store(int64(len(l.events)))
}

// publish stores a message, and tells it unless the room is held.
func (l *modelLog) publish(p *room.Publication) *room.Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store(p)
}

func (l *modelLog) store(p *room.Publication) *room.Message {
	m := l.rooms[p.Room]
	e := m.epoch()
	l.next++
	e.seq += 1 + uint64(max(0, l.rng.IntN(6)-3))
	msg := &room.Message{
		Room: p.Room, ID: fmt.Sprintf("x%d", l.next), Time: time.Now(),
		Payload: p.Payload, Event: p.Event, ExcludeUser: p.ExcludeUser,
	}
	if p.TTL > 0 {
		msg.Expires = time.Now().Add(p.TTL)
	}
	if m.policy.Stored() {
		msg.Position = room.Position{Epoch: e.name, Seq: e.seq, Check: 1 + l.rng.Uint32N(1000)}
		msg.ID = msg.Position.String()
	}
	m.ids[msg.ID] = place{len(m.epochs) - 1, len(e.entries)}
	e.entries = append(e.entries, modelEntry{pos: msg.Position, msg: msg})
	if !m.held {
		l.deliver(m)
	}
	return msg
}

// deliver tells this node what it has not been told of a room.
func (l *modelLog) deliver(m *modelRoom) {
	for e := m.epoch(); m.told < len(e.entries); {
		entry := e.entries[m.told]
		m.told++
		if entry.msg != nil {
			m.head = entry.pos
			l.tell(m, func() { m.hub.Append(entry.msg) })
		}
	}
}

// unreadable stores a record that nobody can read.
func (l *modelLog) unreadable(m *modelRoom) {
	e := m.epoch()
	e.seq++
	e.entries = append(e.entries, modelEntry{pos: room.Position{Epoch: e.name, Seq: e.seq, Check: 1 + l.rng.Uint32N(1000)}})
	if !m.held {
		l.deliver(m)
	}
}

// purge takes the entries below n out of a log. If this node has not been told all of
// them, or loud, it is told that some are missing; where the room goes on it may know
// exactly or not.
func (l *modelLog) purge(m *modelRoom, n int, loud bool) {
	e := m.epoch()
	for ; e.first < n; e.first++ {
		e.entries[e.first].purged = time.Now()
	}
	if m.told >= n && !loud {
		return
	}
	if loud && m.told == len(e.entries) {
		l.unreadable(m) // the purge's marker
		m.told = len(e.entries)
		l.breaks(m, room.Truncated, e.entries[m.told-1].pos)
		return
	}
	head := m.head
	if m.told < n && (n < len(e.entries) || l.rng.IntN(2) == 0) {
		head = room.Position{Epoch: e.name, Seq: e.entries[n-1].pos.Seq}
		if n < len(e.entries) {
			head.Seq = e.entries[n].pos.Seq - 1
		}
	}
	m.told = max(m.told, n)
	l.breaks(m, room.Truncated, head)
}

// lose has a room's messages leave the log before this node has seen them, with all
// that is before them.
func (l *modelLog) lose(m *modelRoom) {
	held := m.held
	m.held = true
	for range 1 + l.rng.IntN(3) {
		l.store(l.publication(m.name))
	}
	m.held = held
	l.purge(m, len(m.epoch().entries), false)
}

// reset begins another log, which has a few messages already.
func (l *modelLog) reset(m *modelRoom) {
	e := &modelEpoch{name: fmt.Sprintf("e%d", len(m.epochs)), seq: uint64(l.rng.IntN(40))}
	m.epochs = append(m.epochs, e)
	m.told, m.replica = 0, -1
	held := m.held
	m.held = true
	for range l.rng.IntN(3) {
		l.store(l.publication(m.name))
	}
	m.held = held
	e.seq += uint64(l.rng.IntN(3))
	m.told, e.cautious = len(e.entries), e.seq
	l.breaks(m, room.Reset, room.Position{Epoch: e.name, Seq: e.seq})
}

func (l *modelLog) breaks(m *modelRoom, reason room.GapReason, head room.Position) {
	if m.hub == nil {
		return
	}
	m.breaks = append(m.breaks, modelBreak{reason, m.head, head})
	m.head = head
	l.tell(m, func() { m.hub.Break(reason, head) })
	l.stats.breaks.Add(1)
}

// publication makes a message up, whose text tells what it is.
func (l *modelLog) publication(name room.Name) *room.Publication {
	size := 0
	switch n := l.rng.IntN(100); {
	case n == 0:
		size = 65_490 // a header of 10 bytes
	case n < 5:
		size = 3000
	case n < 20:
		size = 150 // a header of 4 bytes
	}
	p := &room.Publication{Room: name, Payload: room.Payload{
		Kind: room.Text, Bytes: fmt.Appendf(nil, "%s %d%s", name, l.next, strings.Repeat(".", size)),
	}}
	switch l.rng.IntN(12) {
	case 0:
		p.ExcludeUser = fmt.Sprintf("u%d", l.rng.IntN(modelUsers))
	case 1:
		p.TTL = time.Duration(1+l.rng.IntN(3)) * time.Second
	}
	return p
}

var errModelRead = errors.New("the model's log fails")

// Read answers as the log is now, at once or later.
func (l *modelLog) Read(ctx context.Context, name room.Name, after room.Position, limit int) (room.Page, error) {
	page, wait, err := l.read(name, after, limit)
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return room.Page{}, ctx.Err()
		}
	}
	return page, err
}

func (l *modelLog) read(name room.Name, after room.Position, limit int) (page room.Page, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.rooms[name]
	l.stats.reads.Add(1)
	if m.slow > 0 {
		wait = time.Duration(l.rng.Int64N(int64(m.slow)))
	}
	if m.fails {
		l.stats.failedReads.Add(1)
		return room.Page{}, wait, errModelRead
	}
	if l.rng.IntN(3) > 0 {
		limit = 1 + l.rng.IntN(min(limit, 12))
	}
	page, err = m.read(after, limit)
	if page.Gap != "" {
		m.caused[string(page.Gap)+" "+after.String()] = true
	}
	return page, wait, err
}

// Ends answers as the leader knows it.
func (l *modelLog) Ends(_ context.Context, name room.Name, after room.Position) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.rooms[name]
	if m.fails {
		return false, errModelRead
	}
	e := m.epoch()
	return max(e.after(after), e.first) == len(e.entries), nil
}

// read obeys docs/protocol.md §5.
func (m *modelRoom) read(after room.Position, limit int) (room.Page, error) {
	e := m.epoch()
	if after.Epoch != e.name || after.Seq > e.seq {
		return room.Page{Gap: room.Reset}, nil
	}
	from, end := e.after(after), len(e.entries)
	if m.replica >= 0 {
		end = min(end, m.replica)
	}
	var page room.Page
	switch known := from > 0 && e.entries[from-1].pos.Seq == after.Seq; {
	case after.IsWatermark():
		if from < e.first {
			page.Gap = room.Truncated
		}
	case known && e.entries[from-1].pos.Check != after.Check && from > e.first:
		return room.Page{Gap: room.Reset}, nil
	case !known || from <= e.first:
		page.Gap = room.Truncated
	case from > end:
		return room.Page{}, errModelRead // the replica does not have it yet
	}
	if page.Gap != "" && end < len(e.entries) {
		return room.Page{}, errModelRead // a replica that lags proves no absence
	}
	from = max(from, e.first)
	for ; from < end && limit > 0; from, limit = from+1, limit-1 {
		page.Last = e.entries[from].pos
		if msg := e.entries[from].msg; msg != nil {
			page.Messages = append(page.Messages, msg)
		} else {
			page.Last.Check = 0
		}
	}
	page.More = from < end
	return page, nil
}

// Publish is the bus's: it stores at once and answers later.
func (l *modelLog) Publish(ctx context.Context, p *room.Publication, done func(room.Ack, error)) {
	msg := l.publish(p)
	ack := func() { done(room.Ack{ID: msg.ID, Stored: !msg.Position.IsZero()}, nil) }
	l.mu.Lock()
	wait := time.Duration(l.rng.IntN(50)) * time.Millisecond
	l.mu.Unlock()
	if wait < 10*time.Millisecond {
		ack()
		return
	}
	go func() {
		select {
		case <-time.After(wait):
			ack()
		case <-ctx.Done():
			done(room.Ack{}, room.Errorf(room.Deadline, room.ReasonOutcomeUnknown, "no answer"))
		}
	}()
}

// heal ends all trouble and tells this node everything.
func (l *modelLog) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.list {
		m.held, m.fails, m.slow, m.replica = false, false, 0, -1
		l.deliver(m)
	}
}
