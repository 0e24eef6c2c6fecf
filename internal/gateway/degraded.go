package gateway

import (
	"sync"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// degraded is why messages may come late now.
type degraded struct {
	mu     sync.Mutex
	reason room.Reason // guarded by mu; empty = they do not
}

// SetDegraded tells the sockets that messages may come late from now on, and why; an
// empty reason tells them that this is over. What they know already is not told again.
// It never blocks on a socket.
func (g *Gateway) SetDegraded(reason room.Reason) {
	g.degraded.mu.Lock()
	defer g.degraded.mu.Unlock()
	if g.degraded.reason == reason {
		return
	}
	g.degraded.reason = reason
	for _, s := range g.roster.all() {
		s.tellDegradedLocked()
	}
}

// tellDegraded tells the peer of a node that is degraded.
func (s *session) tellDegraded() {
	s.gw.degraded.mu.Lock()
	defer s.gw.degraded.mu.Unlock()
	s.tellDegradedLocked()
}

// tellDegradedLocked tells the peer what it does not know. A socket that has not had
// its welcome is told after it.
func (s *session) tellDegradedLocked() {
	reason := s.gw.degraded.reason
	if s.caller.Load() == nil || s.knows == reason {
		return
	}
	s.knows = reason
	if reason == "" {
		s.reply(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Restored_{Restored: &roomcastv1.ServerFrame_Restored{}}})
		return
	}
	s.reply(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Degraded_{Degraded: &roomcastv1.ServerFrame_Degraded{
		Reason: string(reason),
	}}})
}
