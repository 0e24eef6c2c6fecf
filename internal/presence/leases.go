package presence

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

const (
	leaseTime  = 6 * time.Second // a node tells of a room for so long after it was last asked to
	leaseSweep = time.Second
	maxEvents  = 256 // in one message to the other nodes
)

// leases is the rooms that somebody watches, as the node that is to tell: it does so
// while it is asked to, again and again. What the hub says under its locks waits in a
// queue for the goroutine that tells it.
type leases struct {
	p    *Presence     // static
	news chan struct{} // one slot: the queue is not empty

	mu      sync.Mutex // guards rooms, running and closed
	rooms   map[room.Name]*lease
	running bool
	closed  bool

	queueMu sync.Mutex // guards queue
	queue   []told
}

// lease is one room that is told of.
type lease struct {
	row   uint64
	until time.Time
	stop  func()
}

// told is one event that waits to be told.
type told struct {
	name  room.Name
	row   uint64
	seq   uint64
	event *busv1.PresenceEvent
}

func (l *leases) init(p *Presence) {
	l.p, l.news, l.rooms = p, make(chan struct{}, 1), make(map[room.Name]*lease)
}

// answer begins or goes on to tell of rooms, and says how each stands.
func (l *leases) answer(_ context.Context, q *busv1.WatchQuestion, part func(proto.Message)) {
	type watched = busv1.Watched_Room
	out := chunks[*watched]{send: func(list []*watched) { part(&busv1.Watched{Rooms: list}) }}
	for _, text := range q.GetRooms() {
		name := room.Name(text)
		row := l.renew(name, time.Now())
		if !q.GetSnapshot() {
			out.add(&watched{Room: text, Row: row, Seq: l.p.cfg.Rooms.Told(name)}, len(text)+24)
			continue
		}
		list, seq := l.p.cfg.Rooms.Snapshot(name)
		bytes := 0
		members := chunks[*busv1.Member]{send: func(list []*busv1.Member) {
			out.add(&watched{Room: text, Row: row, Seq: seq, Members: list}, bytes+len(text)+24)
			bytes = 0
		}}
		for _, m := range list {
			members.add(memberProto(m), memberBytes(m))
			bytes += memberBytes(m)
		}
		if len(list) == 0 {
			members.send(nil)
		}
		members.flush()
	}
	out.flush()
}

// renew keeps a room told of and returns which row of events that is; 0 if this node
// tells nothing any more.
func (l *leases) renew(name room.Name, now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0
	}
	held := l.rooms[name]
	if held == nil {
		row := rand.Uint64() | 1 //nolint:gosec // to tell apart, not to keep secret
		held = &lease{row: row}
		l.rooms[name] = held
		held.stop = l.p.cfg.Rooms.Watch(name, func(seq uint64, m room.Member, left room.LeaveReason) {
			l.push(told{name: name, row: row, seq: seq, event: &busv1.PresenceEvent{Member: memberProto(m), Left: string(left)}})
		})
	}
	held.until = now.Add(leaseTime)
	if !l.running {
		l.running = true
		l.p.wg.Go(l.run)
	}
	return held.row
}

// push queues an event. A room's lock is held.
func (l *leases) push(t told) {
	l.queueMu.Lock()
	l.queue = append(l.queue, t)
	l.queueMu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// run tells what is queued for as long as anything is watched, and at the end what is left:
// nobody else does, so it stays in order.
func (l *leases) run() {
	tick := time.NewTicker(leaseSweep)
	defer tick.Stop()
	for {
		select {
		case <-l.news:
			l.flush()
		case now := <-tick.C:
			l.flush() // it may be the end
			if l.sweep(now) {
				return
			}
		case <-l.p.ctx.Done():
			l.flush()
			return
		}
	}
}

// flush tells what is queued: events of one room that follow each other in one message.
func (l *leases) flush() {
	l.queueMu.Lock()
	queue := l.queue
	l.queue = nil
	l.queueMu.Unlock()
	for len(queue) > 0 {
		first := queue[0]
		body := &busv1.PresenceEvents{Node: l.p.cfg.Node, Row: first.row, Seq: first.seq}
		for len(queue) > 0 && queue[0].row == first.row && len(body.Events) < maxEvents {
			body.Events = append(body.Events, queue[0].event)
			queue = queue[1:]
		}
		l.p.cfg.Teller.Tell(first.name, l.p.encode(body))
	}
}

// sweep ends the leases that nobody has renewed, and reports whether none is left.
func (l *leases) sweep(now time.Time) (done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, held := range l.rooms {
		if now.After(held.until) {
			held.stop()
			delete(l.rooms, name)
		}
	}
	l.running = len(l.rooms) > 0
	return !l.running
}

// close ends all leases. What is queued run tells.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for name, held := range l.rooms {
		held.stop()
		delete(l.rooms, name)
	}
}
