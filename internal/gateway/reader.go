package gateway

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
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

	// answerWithin is how long the answer to a handshake waits for the rooms that it
	// names: mostly one write has all.
	answerWithin = 20 * time.Millisecond
)

// readBuffers are the buffers of those who read just now.
var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }} //nolint:gochecknoglobals // a pool

// readFirst lets the socket in and begins to read it. Its first turn, which no signal
// asks for, makes the flusher answer the handshake, and the socket's clocks run.
func (s *session) readFirst(caller *auth.Caller, early []byte) {
	s.reader.frames.maxMessage = s.maxMessage()
	s.reader.rate = budget{left: framesBurst, at: s.since}
	s.reader.bytes = budget{left: bytesBurst, at: s.since}
	turn := func() { s.flusher.push(task{session: s}) }
	late := time.AfterFunc(answerWithin, turn)
	if caller != nil && s.welcome(caller) {
		s.subscribeQueries()
	}
	if late.Stop() {
		turn()
	}
	if len(early) > 0 && !s.take(early) {
		s.readEnded()
		return
	}
	if s.in == io.Reader(s.parking) && s.rest() == nil {
		return
	}
	s.read()
}

// readable has a worker read a parked socket.
func (s *session) readable() {
	if s.reading.CompareAndSwap(false, true) {
		s.gw.workers.push(s)
	}
}

// read reads the socket until it has nothing more and is parked, or ends. A socket
// that cannot be parked is waited for.
func (s *session) read() {
	buf := readBuffers.Get().(*[readBuffer]byte) //nolint:forcetypeassert // the pool has nothing else
	defer readBuffers.Put(buf)
	for {
		n, err := s.in.Read(buf[:])
		if n > 0 && !s.take(buf[:n]) {
			break
		}
		if s.parking != nil && s.drained(n, err) {
			if err = s.rest(); err == nil {
				return
			}
		}
		if err != nil {
			s.gone()
			break
		}
	}
	s.readEnded()
}

// rest parks the socket: another one reads it from now on, once there is something. After
// an error whoever has called it still does.
func (s *session) rest() error {
	s.reading.Store(false)
	err := s.parking.park()
	if err != nil && !s.reading.CompareAndSwap(false, true) {
		return nil // it was told at the same time
	}
	return err
}

// drained reports whether a read found the end of what is there.
func (s *session) drained(n int, err error) bool {
	if err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	return n < readBuffer && s.in == io.Reader(s.parking) // TLS may hold more itself
}

// readEnded says that nothing of the socket is read any more.
func (s *session) readEnded() {
	s.shut(closeGone) // if nothing else has ended it
	s.readDone.Store(true)
	s.signal()
}

// take hands bytes to the frame reader and reports whether more may follow. After a
// fault it reads on, for nothing, until the connection is closed by the peer or by
// the flusher: closing it over bytes that nobody has read would reset it, and the
// peer could lose the close frame.
func (s *session) take(p []byte) (more bool) {
	if s.reader.faulty {
		return true
	}
	frames := &s.reader.frames
	err := s.feed(frames, p)
	switch fault, ok := errors.AsType[*closeError](err); {
	case ok:
		word, detail, _ := strings.Cut(fault.reason, " ")
		s.shut(closing{code: fault.code, word: word, detail: detail})
		s.reader.faulty = true
		s.stallBy.Store(int64(never))
	case err != nil:
		return false
	default:
		s.noteStall(frames)
	}
	return true
}

// noteStall gives each message that has begun stallTimeout to end.
func (s *session) noteStall(frames *frameReader) {
	switch partial := frames.Partial(); {
	case partial && (s.stallBy.Load() == int64(never) || s.reader.completed != frames.completed):
		s.reader.completed = frames.completed
		s.stallBy.Store(int64(s.gw.now().add(stallTimeout)))
		s.signal()
	case !partial && s.stallBy.Load() != int64(never):
		s.stallBy.Store(int64(never))
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

// feed hands bytes to the frame reader. After an error it takes no more.
func (s *session) feed(frames *frameReader, p []byte) error {
	s.received.Add(int64(len(p)))
	before := frames.frames
	err := frames.Feed(p, s)
	read := frames.frames - before
	s.gw.cfg.Metrics.FramesReceived.Add(float64(read))
	now := s.gw.now()
	inTime := s.reader.rate.take(now, float64(read), framesPerSec, framesBurst)
	if !s.reader.bytes.take(now, float64(len(p)), bytesPerSec, bytesBurst) || !inTime {
		s.shut(closeTooFast) // and go on: the peer's close frame may follow
	}
	return err
}

// errPeerClosed stops the frame reader after the peer's close frame.
var errPeerClosed = errors.New("the peer closed")

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
	s.pinged.Store(false) // the clock looks when the answer is due
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
			for !s.out.closing() {
				answered := s.out.untilRoom()
				if answered == nil {
					return
				}
				<-answered
			}
		})
	}
	return !s.out.closing()
}

// hold runs what can make the reader wait for this node. A pong may lie unread
// meanwhile, so its clock starts again afterwards.
func (s *session) hold(f func()) {
	s.held.Store(true)
	pooled := s.reader.pooled // else it takes nobody's place: who greets waits for the rooms of the URL
	if pooled {
		s.gw.workers.block()
	}
	defer func() {
		if pooled {
			s.gw.workers.unblock()
		}
		s.resumed.Store(int64(s.gw.now()))
		s.held.Store(false)
	}()
	f()
}

// budget is a token bucket.
type budget struct {
	left float64
	at   instant
}

// take reports whether n may be spent now, of what fills again to burst.
func (b *budget) take(now instant, n, perSecond, burst float64) bool {
	b.left = min(burst, b.left+time.Duration(now-b.at).Seconds()*perSecond)
	b.at = now
	b.left -= n
	return b.left >= 0
}
