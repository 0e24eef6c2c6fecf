package bench

import (
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// clock counts nanoseconds since a run began. Publishers and readers share it, which
// is why they are one process.
type clock struct{ began time.Time }

func (c clock) now() int64 { return int64(time.Since(c.began)) }

// load is a set of sockets with the messages for them.
type load struct {
	Load
	clock    clock
	mark     mark
	rooms    []string
	sockets  []*socket
	lanes    []*lane
	stalled  []*socket // beside the window
	aside    *lane     // theirs; nil = none
	window   *window
	problems *problems
	filler   string

	from, to atomic.Int64 // messages due in [from, to) are measured
	ending   atomic.Bool  // sockets may close now

	mu     sync.Mutex
	begun  uint64              // guarded by mu: messages until now
	inside bool                // guarded by mu: one of them is measured
	expect []int               // guarded by mu: open sockets by room
	failed map[uint64]struct{} // guarded by mu: keys of messages whose publish failed
}

// newLoad prepares a load whose sockets are read by as many lanes.
func newLoad(cfg Load, c clock, lanes int, p *problems) *load {
	l := &load{
		Load: cfg, clock: c, mark: newMark(), window: newWindow(cfg.InFlight), problems: p,
		filler: strings.Repeat("x", cfg.Payload-stampSize),
		rooms:  make([]string, cfg.Rooms), expect: make([]int, cfg.Rooms), failed: make(map[uint64]struct{}),
	}
	for i := range l.rooms {
		l.rooms[i] = cfg.room(i)
	}
	for range lanes {
		l.lanes = append(l.lanes, newLane(l))
	}
	for i := range cfg.Sockets {
		s := &socket{room: uint32(i % cfg.Rooms), lane: l.lanes[i%lanes]} //nolint:gosec // far below
		l.sockets = append(l.sockets, s)
		l.expect[s.room]++
	}
	if cfg.Stalled > 0 {
		l.aside = newLane(l)
	}
	for i := range cfg.Stalled {
		l.stalled = append(l.stalled, &socket{room: uint32(i % cfg.Rooms), lane: l.aside}) //nolint:gosec // far below
	}
	return l
}

// newMark draws a mark that no other run has and no other text is likely to hold.
func newMark() mark {
	var random [markSize]byte
	_, _ = rand.Read(random[:]) // never fails, as documented
	m := mark{'r', 'c'}
	for i := 2; i < markSize; i++ {
		m[i] = digits[random[i]&31]
	}
	return m
}

// message is one that is in flight.
type message struct {
	key  uint64
	slot uint16
	req  *roomcastv1.PublishRequest
}

// next makes the next message, due at a time of the clock, in an acquired place of the
// window. Rooms take turns.
func (l *load) next(slot uint16, due int64) message {
	l.mu.Lock()
	room, seq := uint32(l.begun%uint64(l.Rooms)), uint32(l.begun/uint64(l.Rooms)) //nolint:gosec // a run is too short for more
	l.begun++
	l.inside = l.inside || l.measured(due)
	key := keyOf(room, seq)
	l.window.begin(slot, key, l.expect[room], due)
	l.mu.Unlock()

	var head [stampSize]byte
	l.mark.put(head[:], stamp{sent: due, seq: seq, slot: slot})
	return message{key: key, slot: slot, req: &roomcastv1.PublishRequest{
		Room: l.rooms[room], Payload: &roomcastv1.PublishRequest_Text{Text: string(head[:]) + l.filler},
	}}
}

// refused notes that a message was not published, as far as is known.
func (l *load) refused(m message, err error) {
	l.problems.note(&l.problems.refused, "publish to %s: %v", m.req.GetRoom(), err)
	l.mu.Lock()
	l.failed[m.key] = struct{}{}
	l.mu.Unlock()
	l.window.end(m.slot, m.key)
}

// gone takes a socket that has closed out of what is expected, so that its room's
// messages do not wait for it.
func (l *load) gone(s *socket) {
	if s.lane == l.aside {
		s.lane.catchUp(s, s.behind, l.clock.now())
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expect[s.room]--
	for slot, key := range l.window.of(s.room) {
		if _, seq := splitKey(key); !s.ledger.has(seq) {
			l.window.delivered(slot, key, 1, 0)
		}
	}
}

// published is how many messages there were until now.
func (l *load) published() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// measures reports whether there is a message that is measured.
func (l *load) measures() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inside
}

// measure begins to measure messages that are due from now on. No message begins between
// the look at the clock and the change: each is measured by all of its sockets or by none.
func (l *load) measure() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside = false
	l.from.Store(l.clock.now()) // first: the end before is not after it
	l.to.Store(1<<63 - 1)
}

// measured reports whether a message due then is part of the measurement.
func (l *load) measured(due int64) bool { return due >= l.from.Load() && due < l.to.Load() }

// stopMeasuring ends it with messages that are due now; as measure.
func (l *load) stopMeasuring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to.Store(l.clock.now())
}

// counts sums up what the lanes have read.
func (l *load) counts() (c counts) {
	for _, lane := range l.lanes {
		lane.mu.Lock()
		c.add(lane.counts)
		lane.mu.Unlock()
	}
	return c
}

// allLanes are the lanes with sockets of any kind.
func (l *load) allLanes() []*lane {
	if l.aside == nil {
		return l.lanes
	}
	return append(slices.Clip(l.lanes), l.aside)
}

// latencies takes the lanes' histograms: of every delivery, and of each message's last.
func (l *load) latencies() (all, last *histogram) {
	all, last = new(histogram), new(histogram)
	for _, lane := range l.lanes {
		lane.mu.Lock()
		all.merge(&lane.all)
		last.merge(&lane.last)
		lane.all, lane.last = histogram{}, histogram{}
		lane.mu.Unlock()
	}
	return all, last
}
