package bus

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

// The live connection feeds shardCount channels; each is drained by one goroutine
// that owns the rooms of its shard.
const (
	shardCount = 4
	shardQueue = 16_384
	shardBurst = 64      // messages that a shard takes before it looks at its commands again
	shardTurns = 8       // rooms of a shard that are proved at a time
	maxBuffer  = 2_048   // messages that a room holds back behind a hole; more are read from the log
	maxHeld    = 4 << 20 // bytes of them
)

// Room is told what happens in one room. All calls come from one goroutine, in
// order; none may block.
type Room interface {
	// Opened says where the room stands; messages after head follow. The zero
	// head is an ephemeral room's.
	Opened(head room.Position)
	// Stands says where the room stands now, without a message since: it has none
	// left, and a position of long ago would prove less.
	Stands(head room.Position)
	// Append brings the next message.
	Append(m *room.Message)
	// Break says that messages may be missing before head, and why.
	Break(reason room.GapReason, head room.Position)
	// Purged says that what the room had stored before the marker was removed. The
	// messages after the marker follow.
	Purged(marker room.Position)
}

// roomState says what a liveRoom waits for.
type roomState uint8

const (
	opening roomState = iota // its head is not known yet
	ready                    // delivering
	filling                  // messages wait in buf for a hole to be filled
)

// liveRoom is one room of this node. Its shard's goroutine owns all but the statics.
type liveRoom struct {
	// static
	log     roomLog // its stream is nil in an ephemeral room
	subject string  // live
	sink    Room

	gone atomic.Bool // the interest has ended

	retry time.Duration // the pause after a failed opening; owned by the joiner

	// owned by the shard's goroutine
	sub     *nats.Subscription
	state   roomState
	doubted bool // messages may have been lost on the way: the head is to be proved first
	inTurn  bool // it is one of shard.turns
	dirty   bool // messages were lost that no later one may tell of: read to the log's end
	head    room.Position
	buf     []liveMsg
	held    int       // bytes of their bodies
	touched time.Time // when a message last came, or it was opened; a second exact
	stop    func()    // not nil: ends the filling of a hole
	lost    int       // messages that the client has dropped for a full channel, as far as known
}

// liveMsg is a republished message: what it says of the one before it in its room.
type liveMsg struct {
	msg  *room.Message
	last uint64
}

// shard owns a part of the node's rooms.
type shard struct {
	bus    *Bus
	in     chan *nats.Msg
	cmds   chan func(*shard)
	rooms  map[string]*liveRoom // by live subject; owned by run
	slow   map[string]bool      // live subjects whose messages were dropped; owned by run
	doubt  []*liveRoom          // rooms to prove, when it is their turn; owned by run
	doubts int                  // how often all rooms have come into doubt; owned by run
	turns  int                  // rooms whose turn it is to be proved; owned by run
	now    time.Time            // of the last tick; owned by run
}

func newShard(b *Bus) *shard {
	return &shard{
		bus:   b,
		in:    make(chan *nats.Msg, shardQueue),
		cmds:  make(chan func(*shard), 1024),
		rooms: make(map[string]*liveRoom),
		slow:  make(map[string]bool),
		now:   time.Now(),
	}
}

func (b *Bus) shardOfSubject(subject string) *shard {
	return b.shards[maphash.String(b.seed, subject)%shardCount]
}

// Listen begins to hear a room and tells sink. The returned function ends that; the
// sink may hear a little more until then, and nothing after the bus has taken note.
// Neither blocks on the network.
func (b *Bus) Listen(name room.Name, sink Room) (stop func()) {
	policy := b.cfg.Policies.Of(name)
	lr := &liveRoom{log: b.logOf(name, policy), subject: liveSubject(name, policy), sink: sink}
	s := b.shardOfSubject(lr.subject)
	s.post(func(s *shard) { s.add(lr) })
	return func() {
		lr.gone.Store(true)
		s.post(func(s *shard) { s.remove(lr) })
	}
}

// post hands a command to the shard's goroutine. It must not be called from it.
func (s *shard) post(cmd func(*shard)) {
	select {
	case s.cmds <- cmd:
	case <-s.bus.ctx.Done():
	}
}

func (s *shard) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case s.now = <-tick.C:
			s.checkDropped()
		case <-s.bus.ctx.Done():
			return
		case cmd := <-s.cmds:
			cmd(s)
		case msg := <-s.in:
			s.receive(msg)
			s.receiveWaiting()
		}
	}
}

// receiveWaiting takes some of the messages that wait: a select of many channels for
// each would cost as much as the message.
func (s *shard) receiveWaiting() {
	for range shardBurst {
		select {
		case msg := <-s.in:
			s.receive(msg)
		default:
			return
		}
	}
}

// add begins to open a room. A room that was left and came back at once replaces
// the one before it.
func (s *shard) add(lr *liveRoom) {
	if old := s.rooms[lr.subject]; old != nil {
		s.remove(old)
	}
	s.rooms[lr.subject] = lr
	s.bus.joinerOf(lr).add(lr)
}

func (s *shard) remove(lr *liveRoom) {
	lr.gone.Store(true)
	if lr.stop != nil {
		lr.stop()
	}
	s.proved(lr)
	if lr.sub != nil {
		if err := lr.sub.Unsubscribe(); err != nil {
			s.bus.log.Debug("unsubscribe", "room", lr.log.name, "err", err)
		}
		lr.sub = nil
	}
	if s.rooms[lr.subject] == lr {
		delete(s.rooms, lr.subject)
		delete(s.slow, lr.subject)
	}
}

// receive is hop 3: it takes one message that NATS sent for a room of this node,
// checks its sequence against the room's head, has holes filled, and hands what is
// next to the hub, in order.
func (s *shard) receive(msg *nats.Msg) {
	lr := s.rooms[msg.Subject]
	if lr == nil || lr.sub != nil && msg.Sub != lr.sub {
		return // interest has gone
	}
	s.bus.cfg.Metrics.Received.Inc()
	if lr.log.stream == nil {
		s.receiveEphemeral(lr, msg)
		return
	}
	live, err := parseLive(msg, lr.log)
	if err != nil {
		s.bus.log.Warn("unreadable message from the log, left out", "room", lr.log.name, "err", err)
		return
	}
	if lr.state != ready {
		s.hold(lr, live)
		return
	}
	s.next(lr, live)
}

func (s *shard) receiveEphemeral(lr *liveRoom, msg *nats.Msg) {
	if lr.state != ready {
		return // "from now on" begins with Opened
	}
	m, err := decodeRecord(msg.Data, lr.log.name, "", 0, time.Time{})
	if err != nil {
		s.bus.log.Warn("unreadable ephemeral message, left out", "room", lr.log.name, "err", err)
		return
	}
	s.deliver(lr, m)
}

// hold keeps a message back until the room is ready again.
func (s *shard) hold(lr *liveRoom, live liveMsg) {
	if len(lr.buf) >= maxBuffer || lr.held >= maxHeld {
		lr.buf, lr.held, lr.dirty = nil, 0, true // the log has them
	}
	lr.buf = append(lr.buf, live)
	lr.held += len(live.msg.Payload.Bytes)
}

// next applies the rule of the log to the newest message of a ready room: at or
// below the head it is a duplicate, behind a hole, a doubt or of another log it waits,
// else it is delivered.
func (s *shard) next(lr *liveRoom, live liveMsg) {
	p := live.msg.Position
	switch {
	case p.Epoch != lr.head.Epoch: // the log was replaced: the fill finds what to tell
		s.hold(lr, live)
		s.fill(lr, lr.head.Seq)
	case lr.doubted:
		s.hold(lr, live)
		s.fill(lr, 0)
	case p.Seq == lr.head.Seq && p.Check == lr.head.Check:
		s.bus.cfg.Metrics.BusDuplicates.Inc()
	case p.Seq <= lr.head.Seq:
		// A duplicate, or the log lost its tail and uses the sequences again: the
		// head's own record tells.
		s.bus.cfg.Metrics.BusDuplicates.Inc()
		s.fill(lr, lr.head.Seq)
	case live.last > lr.head.Seq:
		s.hold(lr, live)
		s.fill(lr, live.last)
	default: // live.last <= head: a last below the head is normal after deletions
		s.deliver(lr, live.msg)
	}
}

func (s *shard) deliver(lr *liveRoom, m *room.Message) {
	if s.bus.log.Enabled(s.bus.ctx, slog.LevelDebug) {
		s.bus.log.Debug("receive", "hop", 3, "room", m.Room, "id", m.ID)
	}
	lr.head, lr.touched = m.Position, s.now
	if lr.log.stream != nil {
		lr.log.stream.sawSeq(m.Position.Seq)
	}
	if m.IsPurge() {
		lr.sink.Purged(m.Position)
		return
	}
	lr.sink.Append(m)
}

func (s *shard) broken(lr *liveRoom, reason room.GapReason, head room.Position) {
	s.bus.log.Debug("room broken", "room", lr.log.name, "reason", reason, "head", head.String(), "was", lr.head.String())
	lr.head = head
	lr.sink.Break(reason, head)
}

// opened ends a room's opening: what came meanwhile follows.
func (s *shard) opened(lr *liveRoom, sub *nats.Subscription, head room.Position) {
	if s.rooms[lr.subject] != lr {
		if err := sub.Unsubscribe(); err != nil {
			s.bus.log.Debug("unsubscribe", "room", lr.log.name, "err", err)
		}
		return
	}
	lr.sub, lr.head, lr.touched = sub, head, s.now
	if lr.log.stream != nil && head.Epoch != lr.log.stream.knownEpoch() {
		lr.dirty = true // the log was replaced meanwhile
	}
	lr.sink.Opened(head)
	s.settle(lr)
}

// settle makes a room ready and runs what was held back through the rule. A further
// hole ends it: the rest waits again.
func (s *shard) settle(lr *liveRoom) {
	lr.state = ready
	held := lr.buf
	lr.buf, lr.held = nil, 0
	for i, live := range held {
		switch {
		case live.msg.Position.Epoch != lr.head.Epoch:
			lr.dirty = true // the log was replaced meanwhile
			continue
		case live.msg.Position.Seq <= lr.head.Seq:
			continue // it came while the head was being read
		}
		s.next(lr, live)
		if lr.state != ready {
			for _, later := range held[i+1:] {
				s.hold(lr, later)
			}
			return
		}
	}
	if lr.dirty {
		lr.dirty = false
		s.fill(lr, 0)
	}
}

// resetStream tells the rooms of a log that has become another one.
func (s *shard) resetStream(stream *logStream, info logInfo) {
	for _, lr := range s.rooms {
		if lr.log.stream == stream && lr.state != opening && lr.head.Epoch != info.epoch {
			s.broken(lr, room.Reset, info.end())
		}
	}
}

// parseLive reads a republished message.
func parseLive(msg *nats.Msg, l roomLog) (liveMsg, error) {
	if name := headerValue(msg.Header, nats.JSStream); name != l.stream.name {
		return liveMsg{}, fmt.Errorf("it is of stream %q", name)
	}
	seq, err := strconv.ParseUint(headerValue(msg.Header, nats.JSSequence), 10, 64)
	if err != nil {
		return liveMsg{}, fmt.Errorf("sequence: %w", err)
	}
	last, err := strconv.ParseUint(headerValue(msg.Header, nats.JSLastSequence), 10, 64)
	if err != nil {
		return liveMsg{}, fmt.Errorf("last sequence: %w", err)
	}
	stored, err := time.Parse(time.RFC3339Nano, headerValue(msg.Header, nats.JSTimeStamp))
	if err != nil {
		return liveMsg{}, fmt.Errorf("time: %w", err)
	}
	m, err := decodeRecord(msg.Data, l.name, l.stream.knownEpoch(), seq, stored)
	return liveMsg{msg: m, last: last}, err
}

// headerValue is Header.Get without canonicalising the key: NATS headers are
// case-sensitive. The last value counts: NATS writes its own behind a publisher's.
func headerValue(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
