package bus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

const (
	joinBatch   = 1000 // rooms that are opened together; the log answers for at most 1,024
	joinBatches = 2    // that are under way at once
	joinBackoff = 50 * time.Millisecond

	// joinPace is the time from a batch to the next one of the same log: most of a batch's
	// cost does not depend on how many rooms it has, so in a storm they are let gather.
	// After a room that came alone nobody waits.
	joinPace = 5 * time.Millisecond
)

// joiner begins to hear the rooms of one log, or those that have none. Those that come
// while a batch is being opened, or soon after, are the next one. A log that does not
// answer holds up its own rooms only.
type joiner struct {
	bus    *Bus       // static
	stream *logStream // static; nil for ephemeral rooms

	mu        sync.Mutex // guards what follows
	waiting   []*liveRoom
	gathering bool      // somebody is about to take the next batch
	due       time.Time // when it may be taken
	opening   int       // batches under way
}

func (b *Bus) joinerOf(lr *liveRoom) *joiner {
	if lr.log.stream == nil {
		return b.joins
	}
	return lr.log.stream.joins
}

// add opens rooms; their shards are told. It does not block.
func (j *joiner) add(rooms ...*liveRoom) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, rooms...)
	j.startLocked()
}

// startLocked sees that somebody takes the next batch, if there is one. The lock is held.
func (j *joiner) startLocked() {
	if len(j.waiting) > 0 && !j.gathering && j.opening < joinBatches {
		j.gathering = true
		j.bus.wg.Go(j.run)
	}
}

// run opens the next batch.
func (j *joiner) run() {
	var rooms []*joining
	for _, lr := range j.gather() {
		if !lr.gone.Load() {
			rooms = append(rooms, &joining{lr: lr})
		}
	}
	if len(rooms) > 0 {
		if err := j.open(rooms); err != nil {
			j.again(rooms, err)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.opening--
	j.startLocked()
}

// gather takes a batch once it is due.
func (j *joiner) gather() []*liveRoom {
	j.mu.Lock()
	due := j.due
	j.mu.Unlock()
	if pause := time.Until(due); pause > 0 {
		j.bus.wait(pause)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := min(len(j.waiting), joinBatch)
	batch := j.waiting[:n:n]
	if j.waiting = j.waiting[n:]; len(j.waiting) == 0 {
		j.waiting = nil // its array is the batch's
	}
	if n > 1 {
		j.due = time.Now().Add(joinPace)
	}
	j.gathering = false
	j.opening++
	j.startLocked()
	return batch
}

// joining is a room on its way.
type joining struct {
	lr   *liveRoom
	sub  *nats.Subscription
	head room.Position
}

// open hears rooms and finds out where each stands: whatever is stored after its head
// reaches the subscription. The order of the steps is what makes that true.
func (j *joiner) open(rooms []*joining) (err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, r := range rooms {
			if r.sub != nil {
				_ = r.sub.Unsubscribe() // the connection may be away; a reconnect does not bring it back then
			}
		}
	}()
	ctx, cancel := context.WithTimeout(j.bus.ctx, apiTimeout)
	defer cancel()
	for _, r := range rooms {
		if r.sub, err = j.bus.live.ChanSubscribe(r.lr.subject, j.bus.shardOfSubject(r.lr.subject).in); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	if err = j.settle(ctx); err != nil {
		return err
	}
	if j.stream != nil {
		if err = j.findHeads(ctx, rooms); err != nil {
			return err
		}
	}
	j.opened(rooms)
	return nil
}

// settle waits until the servers from which the rooms' messages come know of the
// subscriptions. A single server knows them once it has answered a flush.
func (j *joiner) settle(ctx context.Context) error {
	if j.bus.clustered() {
		err := j.barrier(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		// Go on all the same: the audit finds what is missed.
		j.bus.log.Warn("rooms are opened without a barrier", "err", err)
		if j.stream != nil {
			j.stream.audit.soon(auditUnclear)
		}
	}
	if err := j.bus.live.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

func (j *joiner) barrier(ctx context.Context) error {
	if j.stream == nil {
		return j.bus.nodesBarrier(ctx)
	}
	return j.bus.leaderBarrier(ctx, j.stream)
}

// findHeads asks the log where the rooms stand.
func (j *joiner) findHeads(ctx context.Context, rooms []*joining) error {
	logs := make([]roomLog, len(rooms))
	for i, r := range rooms {
		logs[i] = r.lr.log
	}
	heads, err := j.bus.heads(ctx, j.stream, logs)
	if err != nil {
		return err
	}
	for i, r := range rooms {
		r.head = heads[i]
	}
	return nil
}

// opened tells each shard of its rooms at once.
func (j *joiner) opened(rooms []*joining) {
	byShard := make(map[*shard][]*joining)
	for _, r := range rooms {
		s := j.bus.shardOfSubject(r.lr.subject)
		byShard[s] = append(byShard[s], r)
	}
	for s, mine := range byShard {
		s.post(func(s *shard) {
			for _, r := range mine {
				s.opened(r.lr, r.sub, r.head)
			}
		})
	}
}

// again opens rooms later.
func (j *joiner) again(rooms []*joining, cause error) {
	var list []*liveRoom
	pause := joinBackoff
	for _, r := range rooms {
		r.lr.retry = min(max(2*r.lr.retry, joinBackoff), 2*time.Second)
		pause = max(pause, r.lr.retry)
		list = append(list, r.lr)
	}
	j.bus.log.Debug("open rooms", "rooms", len(rooms), "err", cause, "retry", pause.String())
	j.bus.wg.Go(func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
			j.add(list...)
		case <-j.bus.ctx.Done():
		}
	})
}

// clustered reports whether messages may come from another server than the one that
// we are connected to.
func (b *Bus) clustered() bool {
	if b.cfg.Embedded != nil {
		return false
	}
	if b.live.ConnectedClusterName() != "" {
		return true
	}
	for _, s := range b.streams { // ours may be a leaf of a cluster
		if s.clustered() {
			return true
		}
	}
	return false
}
