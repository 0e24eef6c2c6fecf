package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/wire"
)

// The writer's bounds and clocks, docs/protocol.md §6.
const (
	maxFrames    = 64                     // a write holds at most this many
	maxWrite     = 256 << 10              // and this many bytes, or one frame: a slow peer gets on within writeTimeout
	pageSize     = 256                    // messages of one read of the log
	writeTimeout = 10 * time.Second       // for one write; then 4502, or 4429 if answers wait
	blockedWrite = 10 * time.Millisecond  // a write that took longer has waited for the peer
	readTimeout  = 5 * time.Second        // for one read of the log: pings wait for it
	pongTimeout  = 10 * time.Second       // after a ping; then 4504
	authTimeout  = 10 * time.Second       // for the first token; then 4408
	closeGrace   = time.Second            // for what is left when the socket closes
	logLag       = 50 * time.Millisecond  // before a log that is behind the ring is asked again
	logRetry     = 500 * time.Millisecond // before a log that failed is asked again
)

// writer is what the write loop owns.
type writer struct {
	active  []*hub.Cursor // have news; those that have waited longest are first
	kept    []*hub.Cursor // scratch of collect
	frames  [][]byte      // what collect has taken; reused
	unsent  [][]byte      // the end of frames: not written yet
	more    bool          // collect has left something
	end     *closing      // how to close once unsent is written
	pause   time.Time     // do not ask the log before
	failing bool          // a read of the log failed, and that was logged
	pingDue bool
	pingAt  time.Time
	pongBy  time.Time // zero while no ping is out
}

// writeLoop writes the socket until it is to close, then writes the close frame.
func (s *session) writeLoop() {
	w := writer{pingAt: s.since.Add(s.gw.cfg.PingInterval)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
		case <-timer.C:
		}
		for more := true; more; {
			if how, late := s.checkClocks(&w, time.Now()); late {
				s.shut(how)
			}
			var err error
			if more, err = s.flush(&w); err != nil {
				s.writeFailed(err)
				return
			}
		}
		if w.end != nil {
			s.sendClose(*w.end)
			return
		}
		timer.Reset(time.Until(s.nextClock(&w)))
	}
}

// flush is hop 5: it writes, in one call, the control frames that wait and what each
// room's cursor is behind by, up to maxFrames. more means that it should be called
// again at once.
func (s *session) flush(w *writer) (more bool, err error) {
	if w.pingDue {
		if err := s.ping(w); err != nil {
			return false, err
		}
	}
	if len(w.unsent) == 0 && w.end == nil {
		s.collect(w)
	}
	began := time.Now()
	if err := s.write(w.next()); err != nil {
		return false, err
	}
	if took := time.Since(began); took > blockedWrite && !w.pongBy.IsZero() {
		// The peer has read, or the kernel would have taken no more: it lives, and the
		// ping is still before it.
		w.pongBy = time.Now().Add(pongTimeout)
	}
	return len(w.unsent) > 0 || w.more && w.end == nil, nil
}

// collect takes the control frames that wait and what the cursors are behind by.
// Rooms take turns: those that got none are first the next time, and a room whose
// log does not answer is last.
func (s *session) collect(w *writer) {
	frames, active, end := s.out.take(w.frames[:0], w.active)
	if len(frames) > 0 {
		s.out.shrunk()
	}
	now := time.Now()
	kept, last := w.kept[:0], (*hub.Cursor)(nil)
	w.more = false
	served, size := 0, 0
	for ; served < len(active) && len(frames) < maxFrames && size < maxWrite; served++ {
		c, before := active[served], len(frames)
		var state hub.State
		frames, state = c.Take(frames, maxFrames, now)
		progress := state == hub.More
		if state == hub.InLog && end == nil && !now.Before(w.pause) {
			if frames, progress = s.refill(w, c, frames); !progress {
				now, last = time.Now(), c // w.pause is after it: no other is asked
			}
		}
		w.more = w.more || progress
		if state != hub.Current && c != last {
			kept = append(kept, c)
		}
		if len(frames) > before {
			s.trace(c)
		}
		for _, f := range frames[before:] {
			size += len(f)
		}
	}
	w.more = w.more || served < len(active)
	if last != nil {
		kept = append(kept, last)
	}
	w.failing = w.failing && len(kept) > 0 // one line in the log until all rooms got on
	w.active = append(active[:copy(active, active[served:])], kept...)
	clear(w.active[len(w.active):len(active)])
	clear(kept)
	w.kept, w.frames, w.unsent, w.end = kept, frames, frames, end
}

// refill reads a page of the log for a cursor that is behind its ring. It reports
// whether the cursor got on; if not, w.pause says until when to wait.
func (s *session) refill(w *writer, c *hub.Cursor, frames [][]byte) (_ [][]byte, progress bool) {
	ctx, cancel := context.WithTimeout(s.ctx, readTimeout)
	defer cancel()
	page, err := s.gw.cfg.Log.Read(ctx, c.Room(), c.At(), pageSize)
	if err != nil {
		if !w.failing && s.ctx.Err() == nil {
			s.log.Warn("read log", "room", c.Room(), "err", err)
		}
		w.failing, w.pause = true, time.Now().Add(logRetry)
		return frames, false
	}
	frames, progress = c.Refill(frames, page, time.Now())
	if !progress {
		w.pause = time.Now().Add(logLag)
	}
	return frames, progress
}

// next takes from unsent what one write may hold.
func (w *writer) next() [][]byte {
	n, size := 0, 0
	for n < len(w.unsent) && n < maxFrames {
		size += len(w.unsent[n])
		if n > 0 && size > maxWrite {
			break
		}
		n++
	}
	frames := w.unsent[:n]
	w.unsent = w.unsent[n:]
	return frames
}

// ping writes a ping before anything that waits: its answer has a deadline.
func (s *session) ping(w *writer) error {
	s.pinged.Store(true)
	if err := s.write([][]byte{wire.Frame(wire.OpPing, nil)}); err != nil {
		return err
	}
	now := time.Now()
	w.pingDue, w.pongBy, w.pingAt = false, now.Add(pongTimeout), now.Add(s.gw.cfg.PingInterval)
	return nil
}

func (s *session) trace(c *hub.Cursor) {
	if s.log.Enabled(s.ctx, slog.LevelDebug) {
		s.log.Debug("flush", "hop", 5, "room", c.Room(), "id", c.At().String(), "user", s.User())
	}
}

// write puts frames on the socket in one writev.
func (s *session) write(frames [][]byte) error {
	if len(frames) == 0 {
		return nil
	}
	if s.ctx.Err() == nil {
		if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if s.ctx.Err() != nil { // shut set its own deadline in between
			_ = s.conn.SetWriteDeadline(time.Now().Add(closeGrace))
		}
	}
	buffers := net.Buffers(frames)
	n, err := buffers.WriteTo(s.conn)
	s.sent.Add(n)
	return err
}

// writeFailed ends a socket that cannot be written. If its reader is held back
// because answers wait, they are what the peer does not read.
func (s *session) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		how := closeTooSlow
		if s.out.full() {
			how = closeUnread
		}
		s.shut(how)
	}
	s.gone()
}

// sendClose writes the close frame, RFC 6455 §5.5.1, unless the peer is gone.
func (s *session) sendClose(how closing) {
	if how.code == statusAbnormal {
		return
	}
	payload := []byte{}
	if how.code != statusNone { // RFC 6455 §7.4.1: it MUST NOT stand in a frame
		payload = append(binary.BigEndian.AppendUint16(payload, how.code), how.reason()...)
	}
	if err := s.write([][]byte{wire.Frame(wire.OpClose, payload)}); err != nil {
		s.log.Debug("close frame", "err", err)
		s.drop()
	}
}

// checkClocks finds what is due: a ping, or that something has taken too long.
func (s *session) checkClocks(w *writer, now time.Time) (how closing, late bool) {
	caller := s.caller.Load()
	switch {
	case caller == nil && !now.Before(s.since.Add(authTimeout)):
		return closeNoAuth, true
	case caller != nil && caller.Expired(now):
		return closeExpired, true
	case !w.pongBy.IsZero() && !s.pinged.Load():
		w.pongBy = time.Time{}
	case !w.pongBy.IsZero() && !now.Before(w.pongBy):
		if s.held.Load() {
			w.pongBy = now.Add(pongTimeout)
			return how, false
		}
		w.pongBy = time.Unix(0, s.resumed.Load()).Add(pongTimeout)
		return closeNoPong, !now.Before(w.pongBy)
	}
	w.pingDue = w.pongBy.IsZero() && !now.Before(w.pingAt)
	return how, false
}

// nextClock returns when checkClocks has something to find, or a paused read of the
// log is due. It is not before now, or the loop would spin.
func (s *session) nextClock(w *writer) time.Time {
	next := w.pingAt
	if !w.pongBy.IsZero() {
		next = w.pongBy // no second ping before the first one's answer
	}
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if caller := s.caller.Load(); caller == nil {
		earlier(s.since.Add(authTimeout))
	} else if !caller.Expires.IsZero() {
		earlier(caller.Expires.Add(auth.Leeway))
	}
	if len(w.active) > 0 {
		earlier(w.pause)
	}
	return next
}
