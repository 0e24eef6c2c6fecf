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
func (s *session) clock(at time.Time) {
	w, now := &s.w, s.gw.instant(at)
	caller := s.caller.Load()
	switch {
	case w.closing:
		if now >= w.graceBy {
			w.graceBy = now.add(closeGrace) // the reader is about to end
			s.gone()
		}
	case caller == nil && now >= s.since.add(authTimeout):
		s.shut(closeNoAuth)
	case caller != nil && caller.Expired(at):
		s.shut(closeExpired)
	case s.stalled(now):
		s.shut(closeStalled)
	case w.full && now >= w.stuck.add(writeTimeout):
		// If its reader is held back because answers wait, they are what the peer does not
		// read.
		if s.out.full() {
			s.shut(closeUnread)
		} else {
			s.shut(closeTooSlow)
		}
	case w.pongBy != never && !s.pinged.Load():
		w.pongBy = never
	case w.pongBy != never && now >= w.pongBy:
		s.missPong(now)
	case s.pingDue(now):
		s.ping(now)
	}
}

// stalled reports whether the peer owes the rest of a message for too long. While the
// reader waits for this node the rest may lie unread.
func (s *session) stalled(now instant) bool {
	by := instant(s.stallBy.Load())
	return by != never && now >= by && !s.held.Load() && now >= instant(s.resumed.Load()).add(stallTimeout)
}

// pingDue reports whether a ping is to be written now.
func (s *session) pingDue(now instant) bool {
	w := &s.w
	return w.pongBy == never && now >= w.pingAt && !w.full && !w.closing
}

// ping writes a ping before anything that waits: its answer has a deadline.
func (s *session) ping(now instant) {
	s.pinged.Store(true)
	frame := wire.Frame(wire.OpPing, nil)
	if s.put([][]byte{frame}) == 0 {
		s.w.unsent = append(s.w.unsent, frame...)
	}
	s.w.pongBy, s.w.pingAt = now.add(pongTimeout), now.add(s.gw.cfg.PingInterval)
}

// missPong ends a session whose peer has not answered the ping, unless the answer may
// lie unread because the reader waits for this node.
func (s *session) missPong(now instant) {
	if s.held.Load() {
		s.w.pongBy = now.add(pongTimeout)
		return
	}
	s.w.pongBy = instant(s.resumed.Load()).add(pongTimeout)
	if now >= s.w.pongBy {
		s.shut(closeNoPong)
	}
}

// reclock notes when the session's clocks have something to find.
func (s *session) reclock() {
	w := &s.w
	if w.index == notFlushed {
		return
	}
	if w.closing {
		s.flusher.due[w.index] = w.graceBy
		return
	}
	next := w.pingAt
	switch caller := s.caller.Load(); {
	case caller == nil:
		next = min(next, s.since.add(authTimeout))
	case !caller.Expires.IsZero():
		next = min(next, s.gw.instant(caller.Expires.Add(auth.Leeway)))
	}
	if by := instant(s.stallBy.Load()); by != never {
		next = min(next, by)
	}
	if w.pongBy != never {
		next = min(next, w.pongBy)
	}
	if w.full {
		next = min(next, w.stuck.add(writeTimeout))
	}
	s.flusher.due[w.index] = next
}
