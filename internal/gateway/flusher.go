package gateway

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/hub"
)

// sweepTime is how often the clocks of sockets are looked at.
const sweepTime = 100 * time.Millisecond

// flusher is one goroutine that owns the write side of its sockets. What has work to
// do stands in its queue once: rooms with news, and sockets that need a turn of their
// own. A turn is bounded; who has more goes to the end of the queue.
type flusher struct {
	gw   *Gateway      // static, as lane, wake and stop
	lane *hub.Lane     // its half of the hub
	wake chan struct{} // one slot: the queue is no longer empty
	stop chan struct{} // closed: end

	mu    sync.Mutex // guards queue
	queue []task

	// owned by run
	spare    []task // the slice that queue is swapped with
	sessions []*session
	due      []instant // of each session: when its clocks have something
	swept    time.Time
	vec      *vector
	plain    []byte        // scratch of TLS
	control  [][]byte      // scratch of session.sendControl
	kept     []*hub.Cursor // scratch of session.serve
}

// task is who wants a turn: one of the two.
type task struct {
	part    *hub.Part
	session *session
}

func newFlusher(g *Gateway) *flusher {
	f := &flusher{gw: g, wake: make(chan struct{}, 1), stop: make(chan struct{}), vec: newVector()}
	f.lane = hub.NewLane(func(p *hub.Part) { f.push(task{part: p}) })
	if g.log.Enabled(context.Background(), slog.LevelDebug) {
		f.lane.Trace = func(c *hub.Cursor) {
			g.log.Debug("flush", "hop", 5, "room", c.Room(), "id", c.At().String(), "user", c.User())
		}
	}
	return f
}

// push queues a turn. It never blocks.
func (f *flusher) push(t task) {
	f.mu.Lock()
	f.queue = append(f.queue, t)
	first := len(f.queue) == 1
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// take returns what is queued and leaves an empty queue.
func (f *flusher) take() []task {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch := f.queue
	f.queue, f.spare = f.spare[:0], batch
	return batch
}

// run gives turns until the flusher is stopped. Its clocks stand still while it has
// no sockets.
func (f *flusher) run() {
	sweep := time.NewTimer(sweepTime)
	defer sweep.Stop()
	armed := true
	for {
		batch := f.take()
		for i := range batch {
			f.turn(batch[i])
			batch[i] = task{}
		}
		if len(batch) == 0 {
			select {
			case <-f.wake:
			case <-sweep.C:
				armed = false
			case <-f.stop:
				return
			}
		}
		if now := time.Now(); now.Sub(f.swept) >= sweepTime {
			f.sweep(now)
		}
		if !armed && len(f.sessions) > 0 {
			sweep.Reset(sweepTime)
			armed = true
		}
	}
}

// turn gives one turn, and another one later to who has more.
func (f *flusher) turn(t task) {
	var more bool
	if t.part != nil {
		more = f.lane.Walk(t.part, time.Now())
	} else {
		t.session.queued.Store(false)
		more = t.session.guardedTurn(time.Now())
	}
	if f.lane.Delivered > 0 {
		f.gw.cfg.Metrics.Deliveries.Add(float64(f.lane.Delivered))
		f.lane.Delivered = 0
	}
	if !more {
		return
	}
	if t.part != nil {
		f.push(t)
	} else {
		t.session.signal()
	}
	runtime.Gosched() // a long pass is no reason for the others of this core to wait
}

// sweep looks at the clocks of the sockets that are due.
func (f *flusher) sweep(now time.Time) {
	f.swept = now
	limit := f.gw.instant(now)
	for i := 0; i < len(f.due); i++ {
		if f.due[i] <= limit {
			f.sessions[i].guardedClock(now)
		}
	}
}

// add makes a session one of the flusher's.
func (f *flusher) add(s *session) {
	s.w.index = int32(len(f.sessions)) //nolint:gosec // a process has far fewer sockets
	f.sessions = append(f.sessions, s)
	f.due = append(f.due, 0)
}

// remove lets a session go.
func (f *flusher) remove(s *session) {
	last := len(f.sessions) - 1
	f.sessions[s.w.index], f.due[s.w.index] = f.sessions[last], f.due[last]
	f.sessions[s.w.index].w.index = s.w.index
	f.sessions[last] = nil
	f.sessions, f.due = f.sessions[:last], f.due[:last]
	s.w.index = notFlushed
}
