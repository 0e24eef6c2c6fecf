package gateway

import (
	"context"
	"sync/atomic"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// drain says whether the gateway is draining, and until when. Safe for concurrent use.
type drain struct{ by atomic.Pointer[time.Time] }

func (d *drain) begun() bool { return d.by.Load() != nil }

// left returns how much of the window is left at now; 0 if none is.
func (d *drain) left(now time.Time) time.Duration {
	by := d.by.Load()
	if by == nil {
		return 0
	}
	return max(0, by.Sub(now))
}

// Drain stops taking sockets, asks those that are open to move within the window,
// and closes with 1012 what is left when it ends or ctx does. It returns when every
// socket is closed and the gateway has ended; a socket that does not take its close frame, or does not answer
// it, gets a second for each.
func (g *Gateway) Drain(ctx context.Context, window time.Duration) {
	by := time.Now().Add(window)
	g.roster.mu.Lock()
	g.drain.by.Store(&by)
	g.roster.mu.Unlock()
	sessions := g.roster.all()
	if len(sessions) > 0 {
		g.log.Info("draining", "connections", len(sessions), "window", window.String())
	}
	for _, s := range sessions {
		s.tellDrain()
	}
	gone := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(gone)
	}()
	end := time.NewTimer(window)
	defer end.Stop()
	select {
	case <-gone:
	case <-end.C:
	case <-ctx.Done():
	}
	for _, s := range g.roster.all() {
		s.shut(closeNode)
	}
	<-gone
	g.stop()
}

// tellDrain asks the peer to move, once. A socket that has not had its welcome is
// told after it.
func (s *session) tellDrain() {
	if s.caller.Load() == nil || !s.told.CompareAndSwap(false, true) {
		return
	}
	left := s.gw.drain.left(time.Now())
	s.reply(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Reconnect_{Reconnect: &roomcastv1.ServerFrame_Reconnect{
		WithinMs: uint32(left.Milliseconds()), //nolint:gosec // a window is far below 49 days
		Reason:   string(room.ReasonDraining),
	}}})
}
