package bus

import (
	"context"
	"sync"

	"github.com/roomcast/roomcast/internal/room"
)

// Sequence publishes for one batch, stream or socket and keeps the order of its
// publications in each room, also through retries: at most one message a room is
// unacknowledged, and rooms do not wait for each other. Publish must not be called
// concurrently.
type Sequence struct {
	bus    *Bus
	window chan struct{} // bounds its publications that wait

	mu      sync.Mutex
	waiting map[room.Name][]*call // guarded by mu: a room that has one in flight, and what waits behind it
}

// sequenceWindow is how many publications of one sequence may wait.
const sequenceWindow = 1024

// NewSequence returns a sequence. It holds nothing that needs closing.
func (b *Bus) NewSequence() *Sequence {
	return &Sequence{bus: b, window: make(chan struct{}, sequenceWindow), waiting: make(map[room.Name][]*call)}
}

// Publish stores a publication after those before it in the same room, and calls
// done exactly once, from another goroutine or before it returns; done must not
// block. It blocks only while 1,024 of the sequence wait, at most until ctx ends.
// Errors are those of [Bus.Publish]; one failed publication does not stop the next.
func (q *Sequence) Publish(ctx context.Context, p *room.Publication, done func(room.Ack, error)) {
	if err := q.bus.contest(p.Room); err != nil {
		done(room.Ack{}, err)
		return
	}
	policy := q.bus.cfg.Policies.Of(p.Room)
	if !policy.Stored() {
		done(q.bus.publishEphemeral(p, policy))
		return
	}
	select {
	case q.window <- struct{}{}:
	case <-ctx.Done():
		done(room.Ack{}, (&call{}).gaveUp(ctx.Err()))
		return
	}
	c := q.bus.newCall(ctx, p, policy, done)
	c.sequence = q
	q.mu.Lock()
	behind, inFlight := q.waiting[p.Room]
	if inFlight {
		q.waiting[p.Room] = append(behind, c)
		q.mu.Unlock()
		return
	}
	q.waiting[p.Room] = nil
	q.mu.Unlock()
	q.bus.acks.start(c)
}

// ended gives back a call's place and starts what waits behind it.
func (q *Sequence) ended(c *call) {
	<-q.window
	name := c.pub.Room
	q.mu.Lock()
	behind := q.waiting[name]
	if len(behind) == 0 {
		delete(q.waiting, name)
		q.mu.Unlock()
		return
	}
	next := behind[0]
	q.waiting[name] = behind[1:]
	q.mu.Unlock()
	q.bus.acks.start(next)
}
