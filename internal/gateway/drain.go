package gateway

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

const (
	drainTick   = 20 * time.Millisecond
	settleTime  = time.Second      // longest time in which a draining node still takes sockets
	moveTime    = time.Second      // for one socket to move
	leastReturn = time.Millisecond // between two sockets that come back after 1012
)

// plan is when what of a drain happens.
type plan struct {
	settled time.Time // no more sockets are taken: load balancers have seen /health
	told    time.Time // every socket has been asked to move
	closing time.Time // the last of them has had its time; what is left is closed
	by      time.Time // every socket has been closed
}

// planOf is the plan of a drain within a window: a tenth for what is under way, the
// most for asking, a tenth for those that were asked last, a tenth for closing.
func planOf(now time.Time, window time.Duration) plan {
	return plan{
		settled: now.Add(min(settleTime, window/10)),
		told:    now.Add(window - window/5),
		closing: now.Add(window - window/10),
		by:      now.Add(window),
	}
}

// drain is what a gateway knows of its drain. Safe for concurrent use.
type drain struct {
	ended   chan struct{} // closed once no socket is left and the gateway has ended
	refuses atomic.Bool   // no more sockets are taken

	mu      sync.Mutex
	begun   bool          // guarded by mu
	plan    plan          // guarded by mu
	changed chan struct{} // guarded by mu; closed when there is another plan
}

func newDrain() drain { return drain{ended: make(chan struct{}), changed: make(chan struct{})} }

// current returns the plan, and what is closed when it is replaced.
func (d *drain) current() (p plan, changed <-chan struct{}, begun bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan, d.changed, d.begun
}

// hasten plans a drain within the window, unless one ends sooner. first says that
// there was none.
func (d *drain) hasten(window time.Duration) (first bool) {
	p := planOf(time.Now(), window)
	d.mu.Lock()
	defer d.mu.Unlock()
	first = !d.begun
	if !first && !p.by.Before(d.plan.by) {
		return false
	}
	if !first && d.plan.settled.Before(p.settled) {
		p.settled = d.plan.settled
	}
	d.begun, d.plan = true, p
	close(d.changed)
	d.changed = make(chan struct{})
	return first
}

// wait waits for a moment of the plan, or until stop is closed.
func (d *drain) wait(stop <-chan struct{}, moment func(plan) time.Time) {
	for {
		p, changed, _ := d.current()
		timer := time.NewTimer(time.Until(moment(p)))
		select {
		case <-timer.C:
			return
		case <-stop:
			timer.Stop()
			return
		case <-changed:
			timer.Stop()
		}
	}
}

// Drain moves the sockets to other nodes within the window. /health says 503 at once.
// For up to a second sockets are still taken, because load balancers need to see that;
// then each is asked to move, evenly over most of the window; those that have not gone
// are closed with 1012, evenly over its last tenth, or at once when ctx ends. It returns
// when every socket is closed and the gateway has ended: a socket that does not take
// its close frame, or does not answer it, gets a second for each.
//
// A further Drain makes the first one end sooner if its window does, and waits for it.
func (g *Gateway) Drain(ctx context.Context, window time.Duration) {
	first := g.drain.hasten(window)
	defer context.AfterFunc(ctx, func() { g.drain.hasten(0) })()
	if !first {
		<-g.drain.ended
		return
	}
	g.moveAll(window)
	g.stop()
	close(g.drain.ended)
}

// Hasten makes a drain that runs end within the window, if that is sooner.
func (g *Gateway) Hasten(window time.Duration) {
	if _, _, begun := g.drain.current(); begun {
		g.drain.hasten(window)
	}
}

// moveAll asks all sockets to move, then closes those that stay.
func (g *Gateway) moveAll(window time.Duration) {
	if g.Connections() > 0 {
		g.drain.wait(nil, func(p plan) time.Time { return p.settled })
	}
	g.roster.mu.Lock()
	g.drain.refuses.Store(true)
	g.roster.mu.Unlock()
	sessions := g.roster.all()
	gone := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(gone)
	}()
	if len(sessions) == 0 {
		<-gone
		return
	}
	p, _, _ := g.drain.current()
	telling := max(time.Until(p.told), 0)
	interval := max(telling/time.Duration(len(sessions)), leastReturn)
	g.log.Info("asking the sockets to move", "connections", len(sessions), "within", window.String(),
		"per_second", int(time.Second/interval))
	g.spread(gone, sessions, func(p plan) time.Time { return p.told }, (*session).tellDrain)
	g.drain.wait(gone, func(p plan) time.Time { return p.closing })
	count, closed := len(sessions), 0
	left := slices.DeleteFunc(sessions, func(s *session) bool { return s.out.closing() })
	g.spread(gone, left, func(p plan) time.Time { return p.by }, func(s *session) {
		how := closeNode
		how.retry += time.Duration(closed) * interval // they come back at the pace of those that move
		s.shut(how)
		closed++
	})
	<-gone
	g.log.Info("no sockets are left", "moved", count-closed, "closed", closed)
}

// spread does something to each session that is still there, evenly until a moment of
// the plan. What came too late, on a busy machine, is not made up for in a rush: the
// rest is spread anew. It returns early when all sessions are gone.
func (g *Gateway) spread(gone <-chan struct{}, sessions []*session, until func(plan) time.Time, do func(*session)) {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	due := 1.0 // the first now
	for next := 0; next < len(sessions); {
		p, changed, _ := g.drain.current()
		left := time.Until(until(p))
		for ; next < len(sessions) && (due >= 1 || left <= 0); next++ {
			if s := sessions[next]; !s.out.closing() {
				do(s)
				due--
			}
		}
		select {
		case <-tick.C:
			due += float64(len(sessions)-next) * drainTick.Seconds() / max(left, drainTick).Seconds()
		case <-changed:
		case <-gone:
			return
		}
	}
}

// tellDrain asks the peer to move, for it is its turn; before its welcome, after that.
func (s *session) tellDrain() {
	s.leaves.Store(true)
	s.tellTurn()
}

// tellTurn asks the peer to move, once, if it is its turn.
func (s *session) tellTurn() {
	if !s.leaves.Load() || s.caller.Load() == nil || !s.told.CompareAndSwap(false, true) {
		return
	}
	p, _, _ := s.gw.drain.current()
	left := min(moveTime, time.Until(p.by))
	if left <= 0 {
		return // it is closed now
	}
	s.reply(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Reconnect_{Reconnect: &roomcastv1.ServerFrame_Reconnect{
		WithinMs: uint32(left.Milliseconds()), //nolint:gosec // at most moveTime
		Reason:   string(room.ReasonDraining),
	}}})
}
