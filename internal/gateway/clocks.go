package gateway

import (
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/wire"
)

// A socket's clocks, docs/protocol.md §6. They are looked at every sweepTime.
const (
	writeTimeout = 10 * time.Second // for the peer to take anything; then 4502, or 4429 if answers wait
	pongTimeout  = 10 * time.Second // after a ping; then 4504
	authTimeout  = 10 * time.Second // for the first token; then 4408
	closeGrace   = time.Second      // for what is left when the socket closes
)

// clock does what is due: it pings, or ends a session in which something has taken
// too long.
func (s *session) clock(now time.Time) {
	w := &s.w
	caller := s.caller.Load()
	switch {
	case w.closing:
		if !now.Before(w.graceBy) {
			w.graceBy = now.Add(closeGrace) // the reader is about to end
			s.gone()
		}
	case caller == nil && !now.Before(s.since.Add(authTimeout)):
		s.shut(closeNoAuth)
	case caller != nil && caller.Expired(now):
		s.shut(closeExpired)
	case s.stalled(now):
		s.shut(closeStalled)
	case w.full && !now.Before(w.stuck.Add(writeTimeout)):
		// If its reader is held back because answers wait, they are what the peer does not
		// read.
		if s.out.full() {
			s.shut(closeUnread)
		} else {
			s.shut(closeTooSlow)
		}
	case !w.pongBy.IsZero() && !s.pinged.Load():
		w.pongBy = time.Time{}
	case !w.pongBy.IsZero() && !now.Before(w.pongBy):
		s.missPong(now)
	case s.pingDue(now):
		s.ping(now)
	}
}

// stalled reports whether the peer owes the rest of a message for too long.
func (s *session) stalled(now time.Time) bool {
	by := s.stallBy.Load()
	return by != 0 && now.UnixNano() >= by
}

// pingDue reports whether a ping is to be written now.
func (s *session) pingDue(now time.Time) bool {
	w := &s.w
	return w.pongBy.IsZero() && !now.Before(w.pingAt) && !w.full && !w.closing
}

// ping writes a ping before anything that waits: its answer has a deadline.
func (s *session) ping(now time.Time) {
	s.pinged.Store(true)
	frame := wire.Frame(wire.OpPing, nil)
	if s.put([][]byte{frame}) == 0 {
		s.w.unsent = append(s.w.unsent, frame...)
	}
	s.w.pongBy, s.w.pingAt = now.Add(pongTimeout), now.Add(s.gw.cfg.PingInterval)
}

// missPong ends a session whose peer has not answered the ping, unless the answer may
// lie unread because the reader waits for this node.
func (s *session) missPong(now time.Time) {
	if s.held.Load() {
		s.w.pongBy = now.Add(pongTimeout)
		return
	}
	s.w.pongBy = time.Unix(0, s.resumed.Load()).Add(pongTimeout)
	if !now.Before(s.w.pongBy) {
		s.shut(closeNoPong)
	}
}

// reclock notes when the session's clocks have something to find.
func (s *session) reclock() {
	w := &s.w
	if w.index == notFlushed {
		return
	}
	next := w.pingAt
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	switch caller := s.caller.Load(); {
	case w.closing:
		s.flusher.due[w.index] = w.graceBy.UnixNano()
		return
	case caller == nil:
		earlier(s.since.Add(authTimeout))
	case !caller.Expires.IsZero():
		earlier(caller.Expires.Add(auth.Leeway))
	}
	if by := s.stallBy.Load(); by != 0 {
		earlier(time.Unix(0, by))
	}
	if !w.pongBy.IsZero() {
		earlier(w.pongBy)
	}
	if w.full {
		earlier(w.stuck.Add(writeTimeout))
	}
	s.flusher.due[w.index] = next.UnixNano()
}
