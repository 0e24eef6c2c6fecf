package bus

import (
	"context"
	"sync/atomic"
	"time"
)

// The audit compares where this node's rooms stand with the log: a message that was
// lost on the way is found by the next one of its room, and the last one by nobody else.
const (
	auditRecent  = 2 * time.Second        // between looks at rooms that were active a moment ago
	auditAll     = 30 * time.Second       // between looks at all rooms
	auditAlone   = 5 * time.Minute        // the same on a NATS of our own, which loses nothing on the way
	auditActive  = 10 * time.Second       // how long a room counts as active
	auditQuiet   = time.Second            // a room that hears messages all the time audits itself
	auditGrace   = 100 * time.Millisecond // a message may be on its way still
	auditPause   = 20 * time.Millisecond  // between batches
	auditUnclear = 250 * time.Millisecond // after a join without a barrier
)

// audit looks after the rooms of one log.
type audit struct {
	bus    *Bus          // static
	stream *logStream    // static
	poke   chan struct{} // one slot: look now
	all    atomic.Bool   // at all rooms, the next time
}

func newAudit(b *Bus, s *logStream) *audit {
	return &audit{bus: b, stream: s, poke: make(chan struct{}, 1)}
}

// soon has all rooms looked at after a while, and once more when what was on its way
// has come.
func (a *audit) soon(wait time.Duration) {
	a.lookIn(wait)
	a.lookIn(auditRecent)
}

func (a *audit) lookIn(wait time.Duration) {
	time.AfterFunc(wait, func() {
		a.all.Store(true)
		select {
		case a.poke <- struct{}{}:
		default:
		}
	})
}

func (a *audit) run() {
	every, whole := auditRecent, auditAll
	if a.bus.cfg.Embedded != nil {
		every, whole = auditAlone, auditAlone
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	complete := time.Now()
	for {
		select {
		case <-a.bus.ctx.Done():
			return
		case <-tick.C:
		case <-a.poke:
		}
		all := a.all.Swap(false) || time.Since(complete) >= whole || a.stream.silence(time.Now()) > canaryPatience
		if all {
			complete = time.Now()
		}
		if err := a.look(all); err != nil {
			a.bus.log.Debug("audit", "stream", a.stream.name, "err", err)
			a.all.CompareAndSwap(false, all) // what was not seen is looked at again
		}
	}
}

// suspect is a room as the audit found it.
type suspect struct {
	standing
	last uint64 // sequence of the room's last message
}

// look compares rooms with the log and has holes filled that are still there after a
// moment.
func (a *audit) look(all bool) error {
	if all { // whoever leads the log is noticed, rooms or not
		if _, err := a.bus.streamInfo(a.bus.ctx, a.stream); err != nil {
			return err
		}
	}
	for _, s := range a.bus.shards {
		rooms := s.auditable(a.stream, all)
		for len(rooms) > 0 {
			n := min(len(rooms), joinBatch)
			if err := a.compare(s, rooms[:n]); err != nil {
				return err
			}
			rooms = rooms[n:]
			if len(rooms) > 0 && !a.bus.wait(auditPause) {
				return a.bus.ctx.Err()
			}
		}
	}
	return nil
}

// standing is where a room stood when the audit began.
type standing struct {
	lr      *liveRoom
	head    uint64
	doubted bool // nothing is on its way for it: the connection was away
	doubts  int  // of its shard
}

// auditable lists the rooms of a log that are ready: all, or those that were active
// and have fallen quiet. It waits for the shard's goroutine.
func (s *shard) auditable(stream *logStream, all bool) []standing {
	answer := make(chan []standing, 1)
	s.post(func(s *shard) {
		var rooms []standing
		for _, lr := range s.rooms {
			if lr.log.stream != stream || lr.state != ready {
				continue
			}
			idle := s.now.Sub(lr.touched)
			if all || idle >= auditQuiet && idle < auditActive {
				rooms = append(rooms, standing{lr, lr.head.Seq, lr.doubted, s.doubts})
			}
		}
		answer <- rooms
	})
	select {
	case rooms := <-answer:
		return rooms
	case <-s.bus.ctx.Done():
		return nil
	}
}

// compare looks at one batch of a shard's rooms.
func (a *audit) compare(s *shard, rooms []standing) error {
	ctx, cancel := context.WithTimeout(a.bus.ctx, apiTimeout)
	defer cancel()
	info, err := a.bus.streamInfo(ctx, a.stream)
	if err != nil {
		return err
	}
	logs := make([]roomLog, len(rooms))
	for i, r := range rooms {
		logs[i] = r.lr.log
	}
	last, err := a.bus.lastMessages(ctx, a.stream, info, logs)
	if err != nil {
		return err
	}
	a.bus.cfg.Metrics.AuditedRooms.Add(float64(len(rooms)))
	var certain, suspects []suspect
	var empty []standing
	for _, r := range rooms {
		switch p, ok := last[r.lr.log.subject]; {
		case !ok:
			empty = append(empty, r)
		case p.Seq > r.head && r.doubted:
			certain = append(certain, suspect{r, p.Seq})
		case p.Seq > r.head:
			suspects = append(suspects, suspect{r, p.Seq})
		}
	}
	if len(empty) > 0 {
		s.post(func(s *shard) { s.refresh(empty, info) })
	}
	if len(certain) > 0 {
		s.post(func(s *shard) { s.repair(certain, info.epoch) })
	}
	if len(suspects) > 0 && a.bus.wait(auditGrace) {
		s.post(func(s *shard) { s.repair(suspects, info.epoch) })
	}
	return nil
}

// refresh moves rooms without a message to the log's end: nothing was missed on the
// way there.
func (s *shard) refresh(rooms []standing, info logInfo) {
	for _, r := range rooms {
		lr := r.lr
		if s.rooms[lr.subject] != lr || lr.state != ready || lr.doubted || lr.head.Epoch != info.epoch || lr.head.Seq != r.head || info.last <= r.head {
			continue
		}
		lr.head = info.end()
		lr.sink.Stands(lr.head)
	}
}

// repair fills the rooms that have not come to where the audit saw their logs. One that
// has come into doubt since is left to its turn: what was seen may be from before.
func (s *shard) repair(suspects []suspect, epoch string) {
	for _, x := range suspects {
		lr := x.lr
		if s.rooms[lr.subject] != lr || lr.state != ready || lr.head.Epoch != epoch || lr.head.Seq >= x.last || lr.doubted && x.doubts != s.doubts {
			continue
		}
		s.bus.cfg.Metrics.AuditRepairs.Inc()
		s.bus.log.Debug("audit found a hole", "room", lr.log.name, "head", lr.head.Seq, "last", x.last)
		s.fill(lr, x.last)
	}
}

// wait waits, and reports false if the bus ends.
func (b *Bus) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.ctx.Done():
		return false
	}
}
