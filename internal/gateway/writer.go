package gateway

import (
	"encoding/binary"
	"runtime/debug"
	"time"

	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/wire"
)

// The writer's bounds, docs/protocol.md §6.
const (
	maxFrames = 64        // a socket gets at most this many at a time
	maxWrite  = 256 << 10 // and this many bytes, or one frame
)

// writer is the write side of a session. Its flusher's goroutine owns it.
type writer struct {
	sock    socket
	unsent  []byte        // what the peer has not taken of frames that count as sent
	active  []*hub.Cursor // need turns; those that have waited longest are first
	sent    int64         // bytes
	stuck   instant       // full: since when
	graceBy instant       // closing: when the connection is closed
	pingAt  instant
	pongBy  instant // never while no ping is out
	index   int32   // in flusher.sessions, or notFlushed
	full    bool    // the peer takes no more; session.ready will be called
	closing bool    // nothing of rooms follows
	closed  bool    // the close frame is in unsent, or sent
	let     bool    // the flusher has let the session go
}

const notFlushed = -1

// guardedTurn is turn, at the price of this socket if it panics.
func (s *session) guardedTurn(now time.Time) (more bool) {
	defer s.guardFlusher()
	return s.turn(now)
}

// guardedClock is clock, at the price of this socket if it panics.
func (s *session) guardedClock(now time.Time) {
	defer s.reclock()
	defer s.guardFlusher()
	s.clock(now)
}

// guardFlusher ends a session whose writing has panicked: that costs this socket, not
// the process.
func (s *session) guardFlusher() {
	cause := recover()
	if cause == nil {
		return
	}
	s.log().Error("panic", "part", "flusher", "panic", cause, "stack", string(debug.Stack()))
	s.shut(closeInternal)
	s.w.sock, s.w.full, s.w.closed = nil, true, true // it writes nothing more
	s.drop()
}

// turn does what the session needs besides its rooms' walks: control frames, cursors
// that do not go along, the close. more asks for another turn.
func (s *session) turn(now time.Time) (more bool) {
	w := &s.w
	if w.let {
		return false
	}
	if w.index == notFlushed {
		s.flusher.add(s)
	}
	if s.writable.Swap(false) && w.full && w.sock != nil {
		w.full = false
		if w.pongBy != never {
			// The peer has read, or it would take no more: it lives, and the ping is still
			// before it.
			w.pongBy = s.gw.instant(now).add(pongTimeout)
		}
	}
	s.sendUnsent()
	if at := s.gw.instant(now); s.pingDue(at) {
		s.ping(at)
	}
	var end *closing
	w.active, end = s.out.take(w.active)
	if end == nil {
		more = s.serve(now) // its first write takes the answers along
	}
	s.sendControl()
	if end != nil {
		s.finish(*end, s.gw.instant(now))
	}
	s.reclock()
	return more
}

// Deliver is hop 5: it writes, in one call, what a room's cursor is behind by, as far
// as the peer takes it. The answers that wait come first, in the same call.
func (s *session) Deliver(c *hub.Cursor, frames [][]byte) int {
	defer s.guardFlusher()
	control := s.takeControl()
	if s.w.full || s.w.closing || c.Left() { // asked after the answers were taken: one may say so
		s.putControl(control, nil)
		return 0
	}
	size := 0
	for i, f := range frames {
		if size += len(f); size > maxWrite && i > 0 {
			frames = frames[:i]
			break
		}
	}
	if len(control) == 0 {
		return s.put(frames)
	}
	return s.putControl(control, frames)
}

// put writes frames and returns how many the socket has taken. The rest of one that
// was taken in part is kept.
func (s *session) put(frames [][]byte) (taken int) {
	w := &s.w
	n, full, err := w.sock.write(frames)
	w.sent += n
	if err != nil {
		s.gone()
		w.full = true // it takes nothing more
		return 0
	}
	for taken < len(frames) && n >= int64(len(frames[taken])) {
		n -= int64(len(frames[taken]))
		taken++
	}
	if n > 0 {
		w.unsent = append(w.unsent, frames[taken][n:]...)
		taken++
	}
	if full && !w.full {
		w.full, w.stuck = true, s.gw.now()
		s.reclock()
	}
	return taken
}

// sendUnsent writes what an earlier write has left.
func (s *session) sendUnsent() {
	w := &s.w
	if w.full {
		return
	}
	if len(w.unsent) == 0 {
		s.put(nil) // TLS may have records of its own
		return
	}
	rest := w.unsent
	w.unsent = nil
	if s.put([][]byte{rest}) == 0 {
		w.unsent = rest
	}
}

// sendControl writes the control frames that wait.
func (s *session) sendControl() { s.putControl(s.takeControl(), nil) }

// takeControl returns the control frames that are to be written now, in the flusher's
// scratch.
func (s *session) takeControl() [][]byte {
	f := s.flusher
	f.control = f.control[:0]
	if !s.w.full && !s.w.closed {
		f.control = s.out.takeControl(f.control)
	}
	return f.control
}

// putControl writes control frames from takeControl, and frames after them. It returns how
// many of the frames the socket has taken; what it has not of the control frames is kept.
func (s *session) putControl(control, frames [][]byte) (taken int) {
	if len(control) == 0 {
		return 0
	}
	f := s.flusher
	f.control = append(control, frames...)
	taken = s.put(f.control)
	for ; taken < len(control); taken++ {
		s.w.unsent = append(s.w.unsent, control[taken]...)
	}
	clear(f.control)
	return taken - len(control)
}

// serve gives turns to the cursors that need them, at most maxFrames in all. Rooms
// take turns too: those that got none are first the next time.
func (s *session) serve(now time.Time) (more bool) {
	w := &s.w
	kept := s.flusher.kept[:0]
	served, left := 0, maxFrames
	for ; served < len(w.active) && left > 0 && !w.full && !w.closing; served++ {
		c := w.active[served]
		before := s.flusher.lane.Delivered
		switch s.flusher.lane.Serve(c, left, now) {
		case hub.More, hub.Full:
			kept = append(kept, c)
		case hub.TooSlow:
			s.shut(closeTooSlow)
		case hub.Current, hub.Waiting:
		}
		left -= int(s.flusher.lane.Delivered - before) //nolint:gosec // at most left
	}
	list := append(w.active[:copy(w.active, w.active[served:])], kept...)
	clear(w.active[min(len(list), len(w.active)):])
	clear(kept)
	w.active, s.flusher.kept = list, kept[:0]
	if len(list) == 0 {
		w.active = nil
	}
	return len(list) > 0 && !w.full
}

// finish ends the session's writing: the close frame once the peer has taken what is
// before it, RFC 6455 §5.5.1, and a grace for the peer's own. When its reader is done
// too, the flusher lets the session go.
func (s *session) finish(end closing, now instant) {
	w := &s.w
	if !w.closing {
		w.closing, w.graceBy = true, now.add(closeGrace)
		w.active = nil
	}
	if !w.closed && !w.full && len(w.unsent) == 0 {
		w.closed, w.graceBy = true, now.add(closeGrace)
		if frame := end.frame(); frame != nil && s.put([][]byte{frame}) == 0 {
			w.unsent = frame
		}
	}
	if written := w.closed && len(w.unsent) == 0 && !w.full; s.readDone.Load() && (written || s.dropped.Load()) {
		s.flusher.remove(s)
		if w.sock != nil {
			w.sock.finish()
		}
		w.let = true
		go s.end()
	}
}

// frame returns the close frame; nil if none is to be sent.
func (c closing) frame() []byte {
	if c.code == statusAbnormal {
		return nil
	}
	var payload []byte
	if c.code != statusNone { // RFC 6455 §7.4.1: it MUST NOT stand in a frame
		payload = append(binary.BigEndian.AppendUint16(payload, c.code), c.reason()...)
	}
	return wire.Frame(wire.OpClose, payload)
}
