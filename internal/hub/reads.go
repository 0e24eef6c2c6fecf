package hub

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// How the log is read for cursors.
const (
	maxReads    = 8                      // at a time
	maxForOne   = maxReads - 2           // of one namespace: its log may hang
	pageSize    = 256                    // messages of one read
	readTimeout = 5 * time.Second        // for one read
	logLag      = 50 * time.Millisecond  // before a log that is behind the ring is asked again
	logRetry    = 500 * time.Millisecond // before a log that failed is asked again
	patience    = 2 * time.Second        // a replica may be behind the leader whose messages are in the ring; after it the leader is asked
)

// reads is the bounded pool that reads pages of the log. Requests are served in the
// order in which they came; one read serves all cursors at about the same place.
type reads struct {
	hub  *Hub            // static, as ctx and end
	ctx  context.Context //nolint:containedctx // the hub's life
	end  context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex // guards what follows; after Room.mu
	asked   map[*Room][]*ask
	queue   []*ask
	running int
	busy    map[string]int // reads that run, by namespace
}

// ask is a page that cursors wait for.
type ask struct {
	room  *Room         // static, as after
	after room.Position // what follows it is wanted

	waiters []*Cursor // guarded by reads.mu

	// owned by who reads
	stuck   time.Time     // since when the log has shown nothing
	held    room.Position // the room's head then
	failing bool          // a read failed, and that was logged
}

// ask has the log read after a position; then the cursor's subscriber is told that it
// is behind. Unless exact, a page that is being read for another place may serve. The
// room's lock is held.
func (q *reads) ask(r *Room, after room.Position, c *Cursor, exact bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.asked[r] {
		if a.after == after || !exact && a.covers(after) {
			a.waiters = append(a.waiters, c)
			return
		}
	}
	a := &ask{room: r, after: after, waiters: []*Cursor{c}}
	if q.asked == nil {
		q.asked = make(map[*Room][]*ask)
	}
	q.asked[r] = append(q.asked[r], a)
	q.enqueue(a)
}

// covers reports whether a page read for the ask will have what follows a position
// too, if that is a message's and the page is a full one.
func (a *ask) covers(pos room.Position) bool {
	return !pos.IsWatermark() && !a.after.IsWatermark() && pos.Epoch == a.after.Epoch &&
		pos.Seq > a.after.Seq && pos.Seq-a.after.Seq < pageSize
}

// enqueue queues an ask and sees that somebody takes it. The lock is held.
func (q *reads) enqueue(a *ask) {
	if q.ctx.Err() != nil {
		return // nobody is left to be told
	}
	q.queue = append(q.queue, a)
	if q.running < maxReads {
		q.running++
		q.work.Go(q.run)
	}
}

// close ends the reading and waits for it.
func (q *reads) close() {
	q.mu.Lock()
	q.end()
	q.mu.Unlock()
	q.work.Wait()
}

// run reads what is asked until there is nothing that it may.
func (q *reads) run() {
	for {
		q.mu.Lock()
		a := q.next()
		if a == nil {
			q.running--
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		q.read(a)
		q.mu.Lock()
		q.busy[a.room.Policy.Namespace]--
		q.mu.Unlock()
	}
}

// next takes the first ask that somebody wants and whose namespace has not too many.
// The lock is held.
func (q *reads) next() *ask {
	if q.busy == nil {
		q.busy = make(map[string]int)
	}
	for i := 0; i < len(q.queue); i++ {
		a := q.queue[i]
		if q.busy[a.room.Policy.Namespace] >= maxForOne {
			continue
		}
		if i == 0 {
			q.queue[0] = nil
			q.queue = q.queue[1:]
		} else {
			q.queue = slices.Delete(q.queue, i, i+1)
		}
		if q.wanted(a) {
			q.busy[a.room.Policy.Namespace]++
			return a
		}
		i--
	}
	return nil
}

// wanted drops an ask whose cursors have all left. The lock is held.
func (q *reads) wanted(a *ask) bool {
	for _, c := range a.waiters {
		if !c.left.Load() {
			return true
		}
	}
	q.forget(a)
	return false
}

// errBehind says that a log does not show yet what the room has been told.
var errBehind = errors.New("the log is behind")

// read reads the page of one ask: it is put on the shelf and the cursors are told, or
// the log is asked again a little later.
func (q *reads) read(a *ask) {
	ctx, cancel := context.WithTimeout(q.ctx, readTimeout)
	defer cancel()
	got, head, err := q.page(ctx, a)
	switch {
	case errors.Is(err, errBehind):
		q.again(a, logLag)
		return
	case err != nil:
		if !a.failing && q.ctx.Err() == nil {
			q.hub.cfg.Logger.Warn("read log", "room", a.room.Name, "err", err)
		}
		a.failing, a.stuck = true, time.Time{} // patience is for a log that answers
		q.again(a, logRetry)
		return
	}
	q.hub.shelve(a.room, newPage(a.after, got, head))
	q.mu.Lock()
	q.forget(a)
	waiters := a.waiters
	q.mu.Unlock()
	for _, c := range waiters {
		c.sub.Behind(c)
	}
}

// page reads the log and returns what it has, and the head of the room that this goes
// with. A panic is an error like others: it costs no more than the cursors that wait.
func (q *reads) page(ctx context.Context, a *ask) (got room.Page, head room.Position, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	head, begun := a.room.at(), time.Now()
	got, err = q.hub.cfg.Log.Read(ctx, a.room.Name, a.after, pageSize)
	shows := got.Gap != "" || !got.Last.IsZero() && got.Last != a.after || got.More
	if err != nil || shows || !a.room.ahead(a.after) {
		return got, head, err
	}
	if a.stuck.IsZero() {
		a.stuck, a.held = time.Now(), a.room.at()
	}
	if begun.Sub(a.stuck) < patience { // a slow read shows the log as it was before
		return got, head, errBehind
	}
	ends, err := q.hub.cfg.Log.Ends(ctx, a.room.Name, a.after)
	if err == nil && !ends {
		a.stuck, err = time.Time{}, errBehind // far behind
	}
	return room.Page{Gap: room.Truncated}, a.held, err
}

// again has an ask read after a pause.
func (q *reads) again(a *ask, pause time.Duration) {
	time.AfterFunc(pause, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.enqueue(a)
	})
}

// forget takes an ask out of those that further cursors may join. The lock is held.
func (q *reads) forget(a *ask) {
	list := q.asked[a.room]
	for i, other := range list {
		if other == a {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(q.asked, a.room)
	} else {
		q.asked[a.room] = list
	}
}

// at returns the room's head.
func (r *Room) at() room.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.head
}

// ahead reports whether the room has, or may have, messages after a position.
func (r *Room) ahead(pos room.Position) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aheadLocked(pos)
}

func (r *Room) aheadLocked(pos room.Position) bool {
	return r.known.Epoch != pos.Epoch || r.known.Seq > pos.Seq
}
