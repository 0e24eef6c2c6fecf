package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/wire"
)

// The reader's bounds and clocks, docs/protocol.md §6.
const (
	readBuffer     = 4 << 10
	frameOverhead  = 16 << 10         // a request's names and tokens beside its payload
	maxExpansion   = 6                // a byte of text may stand as \u001f in JSON
	stallTimeout   = 10 * time.Second // for the rest of a message; then 4408
	framesPerSec   = 200
	framesBurst    = 1000
	bytesPerSec    = 1 << 20
	bytesBurst     = 4 << 20
	maxBadRequests = 3 // in a row; then 4400
)

// readLoop reads the socket until it ends.
func (s *session) readLoop(caller *auth.Caller) {
	s.reader.frames = budget{perSecond: framesPerSec, burst: framesBurst, left: framesBurst, at: s.since}
	s.reader.bytes = budget{perSecond: bytesPerSec, burst: bytesBurst, left: bytesBurst, at: s.since}
	if caller != nil {
		s.welcome(caller)
		s.subscribeQueries()
	}
	frames := newFrameReader(s.maxMessage())
	buf := make([]byte, readBuffer)
	stall := stallClock{conn: s.conn}
	for {
		stall.set(frames)
		n, err := s.conn.Read(buf)
		if n > 0 {
			if err := s.feed(frames, buf[:n]); err != nil {
				s.refuseRest(err)
				return
			}
		}
		if err != nil {
			s.readFailed(err)
			return
		}
	}
}

// maxMessage is how many bytes one message of the client may have.
func (s *session) maxMessage() int {
	payload := s.gw.cfg.Policies.MaxPayload()
	if s.format == wire.JSON {
		payload *= maxExpansion
	}
	return payload + frameOverhead
}

// stallClock gives each message that has begun stallTimeout to end.
type stallClock struct {
	conn      net.Conn
	running   bool
	completed uint64 // messages when it was set
}

func (c *stallClock) set(frames *frameReader) {
	switch partial := frames.Partial(); {
	case partial && (!c.running || c.completed != frames.completed):
		_ = c.conn.SetReadDeadline(time.Now().Add(stallTimeout))
		c.running, c.completed = true, frames.completed
	case !partial && c.running:
		_ = c.conn.SetReadDeadline(time.Time{})
		c.running = false
	}
}

// feed hands bytes to the frame reader. After an error it takes no more.
func (s *session) feed(frames *frameReader, p []byte) error {
	s.received.Add(int64(len(p)))
	before := frames.frames
	err := frames.Feed(p, s)
	read := frames.frames - before
	s.gw.cfg.Metrics.FramesReceived.Add(float64(read))
	now := time.Now()
	inTime := s.reader.frames.take(now, float64(read))
	if !s.reader.bytes.take(now, float64(len(p))) || !inTime {
		s.shut(closeTooFast) // and go on: the peer's close frame may follow
	}
	return err
}

// errPeerClosed stops the frame reader after the peer's close frame.
var errPeerClosed = errors.New("the peer closed")

// refuseRest ends the reading after an error of feed.
func (s *session) refuseRest(err error) {
	if fault, ok := errors.AsType[*closeError](err); ok {
		word, detail, _ := strings.Cut(fault.reason, " ")
		s.shut(closing{code: fault.code, word: word, detail: detail})
		s.discard()
	}
}

func (s *session) readFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.shut(closeStalled)
		s.discard()
		return
	}
	s.gone()
}

// discard reads on until the connection is closed, by the peer or by run: closing it
// over bytes that nobody has read would reset it, and the peer could lose the close
// frame.
func (s *session) discard() {
	_ = s.conn.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, s.conn)
}

// onClose answers the peer's close frame with the same code, RFC 6455 §5.5.1.
func (s *session) onClose(code uint16, _ string) error {
	s.shut(closing{code: code, word: "CLIENT_CLOSED", byPeer: true})
	return errPeerClosed
}

func (s *session) onPing(payload []byte) error {
	if !s.waitForRoom() {
		return nil
	}
	s.replyRaw(wire.OpPong, payload) // RFC 6455 §5.5.3: the same payload
	return nil
}

func (s *session) onPong([]byte) error {
	if s.pinged.CompareAndSwap(true, false) {
		s.signal()
	}
	return nil
}

// onMessage takes one request, once there is room for its answer.
func (s *session) onMessage(op opcode, payload []byte) error {
	if op != s.format.Opcode() {
		if op == wire.OpBinary {
			s.shut(closeBinary)
		} else {
			s.shut(closeText)
		}
		return nil
	}
	if !s.waitForRoom() {
		return nil
	}
	frame, err := s.format.DecodeClient(payload)
	if err != nil {
		s.answer(frame.GetId(), err)
		s.reader.bad++
		if s.reader.bad >= maxBadRequests {
			s.shut(closeBad)
		}
		return nil
	}
	s.reader.bad = 0
	s.handle(frame)
	return nil
}

// waitForRoom holds the reading back while answers are not read, or publications wait
// for the log. Both end: a write has its deadline (which closes with 4429 if answers
// fill the queue), a publication too. It reports false if the socket is closing.
func (s *session) waitForRoom() bool {
	if s.out.full() {
		s.hold(func() {
			for s.out.full() && s.ctx.Err() == nil {
				select {
				case <-s.out.answered:
				case <-s.ctx.Done():
				}
			}
		})
	}
	return s.ctx.Err() == nil
}

// hold runs what can make the reader wait for this node. A pong may lie unread
// meanwhile, so its clock starts again afterwards.
func (s *session) hold(f func()) {
	s.held.Store(true)
	defer func() {
		s.resumed.Store(time.Now().UnixNano())
		s.held.Store(false)
	}()
	f()
}

// budget is a token bucket.
type budget struct {
	perSecond, burst, left float64
	at                     time.Time
}

// take reports whether n may be spent now.
func (b *budget) take(now time.Time, n float64) bool {
	b.left = min(b.burst, b.left+now.Sub(b.at).Seconds()*b.perSecond)
	b.at = now
	b.left -= n
	return b.left >= 0
}
