package bench

import (
	"fmt"
	"sync"

	"github.com/roomcast/roomcast/internal/wire"
)

const (
	// readSize is how much one system call may read, and a lane's buffer.
	readSize = 1 << 20

	// maxFrame is the largest frame from a server, in bytes: one that is not complete
	// must leave room in the buffer.
	maxFrame = readSize - 64<<10
)

// lane counts what one goroutine reads from its sockets. Sockets that have a goroutine
// each share a lane, so it has a lock.
type lane struct {
	load *load

	mu      sync.Mutex
	counts  counts      // guarded by mu, as all that follows
	all     histogram   // of every delivery that is measured
	last    histogram   // of the last delivery of each message that is measured
	place   int         // where in its frame the mark was last
	pending []slotCount // by place in the window: read, and not told to the window yet
	touched []uint16    // which of them are not empty
	lagging int         // sockets that are behind
	waiting int64       // since when they are waited for
	caught  int64       // when the last of them had caught up
}

// counts is what was read.
type counts struct {
	deliveries uint64
	reads      uint64 // system calls
	bytes      uint64
}

func (c *counts) add(other counts) {
	c.deliveries += other.deliveries
	c.reads += other.reads
	c.bytes += other.bytes
}

func (c counts) minus(other counts) counts {
	return counts{c.deliveries - other.deliveries, c.reads - other.reads, c.bytes - other.bytes}
}

// slotCount is how often a message was delivered, and when last.
type slotCount struct {
	key   uint64
	count int
	now   int64
}

func newLane(l *load) *lane {
	return &lane{load: l, pending: make([]slotCount, l.InFlight)}
}

// take counts what was read from a socket: b begins with a frame. It returns how many
// bytes were whole frames; the caller keeps the rest. The caller holds mu, and calls
// flush once it has no more to read for now.
func (l *lane) take(s *socket, b []byte, now int64) (used int, err error) {
	l.counts.reads++
	for {
		f, size, err := nextFrame(b[used:])
		if err != nil || size == 0 {
			l.counts.bytes += uint64(used)
			return used, err
		}
		used += size
		if f.op.IsControl() {
			err = s.control(f)
		} else if st, ok := l.load.mark.find(f.payload, &l.place); ok {
			l.deliver(s, st, now)
		} else {
			err = s.frame(f)
		}
		if err != nil {
			return used, err
		}
	}
}

// deliver counts one message.
func (l *lane) deliver(s *socket, st stamp, now int64) {
	switch s.ledger.take(st.seq) {
	case duplicate:
		p := l.load.problems
		p.note(&p.duplicated, "message %d of %s came again", st.seq, l.load.rooms[s.room])
		return
	case overtaken:
		if l.load.ordered() {
			p := l.load.problems
			p.note(&p.reordered, "message %d of %s came after a later one", st.seq, l.load.rooms[s.room])
		}
	case inTurn, early:
	}
	l.counts.deliveries++
	if l == l.load.aside {
		if st.seq < s.goal {
			l.catchUp(s, 1, now)
		}
		return
	}
	if l.load.measured(st.sent) {
		l.all.add(now - st.sent)
	}
	if int(st.slot) >= len(l.pending) {
		return // a load with a larger window and the same mark: not ours
	}
	p := &l.pending[st.slot]
	key := keyOf(s.room, st.seq)
	if p.key != key {
		l.settle(st.slot)
		p.key = key
		l.touched = append(l.touched, st.slot)
	}
	p.count++
	p.now = now
}

// flush tells the window what was delivered.
func (l *lane) flush() {
	for _, slot := range l.touched {
		l.settle(slot)
	}
	l.touched = l.touched[:0]
}

func (l *lane) settle(slot uint16) {
	p := &l.pending[slot]
	if p.key == 0 {
		return
	}
	sent, last, done := l.load.window.delivered(slot, p.key, p.count, p.now)
	if done && l.load.measured(sent) {
		l.last.add(last - sent)
	}
	*p = slotCount{}
}

// socket is one WebSocket. All of it is guarded by its lane's mu.
type socket struct {
	lane       *lane
	room       uint32
	ledger     ledger
	goal       uint32 // of one that stalls: which messages of its room it is waited for
	behind     int    // how many of them have not come
	conn       conn
	rest       []byte // the begin of a frame whose end has not come
	token      string // empty = none
	subscribed bool
	ended      bool // its connection is closed, by whomever
	closed     bool // by the server, or broken
}

// conn is what a socket needs of its connection besides reading.
type conn interface {
	Write(b []byte) (int, error)
	Close() error
}

// control answers a ping; a close frame is an error.
func (s *socket) control(f frame) error {
	switch f.op {
	case wire.OpPing:
		_, err := s.conn.Write(clientFrame(wire.OpPong, f.payload))
		return err
	case wire.OpClose:
		return closeError(f.payload)
	default:
		return nil
	}
}

// end notes that a socket has closed, by whomever.
func (s *socket) end(err error) {
	if s.ended {
		return
	}
	s.ended = true
	_ = s.conn.Close() // it is over either way
	l := s.lane.load
	if !l.ending.Load() {
		s.closed = true
		l.problems.note(&l.problems.closed, "a socket of %s: %v", l.rooms[s.room], err)
		l.gone(s)
	}
}

func closeError(payload []byte) error {
	if len(payload) < 2 {
		return fmt.Errorf("closed without a code")
	}
	return fmt.Errorf("closed with %d: %s", uint16(payload[0])<<8|uint16(payload[1]), payload[2:])
}
