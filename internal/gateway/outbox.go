package gateway

import (
	"context"
	"sync"
	"sync/atomic"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/wire"
)

// Bounds of the control queue: answers, pings, gaps and the close frame. Room
// messages never stand in it.
const (
	maxControlFrames = 64
	maxControlBytes  = 64 << 10
)

// outbox is what a socket's writer is told: control frames in order, cursors that
// have news, and how to close.
type outbox struct {
	waiting atomic.Bool // there are control frames

	mu      sync.Mutex // guards what follows
	control [][]byte
	bytes   int
	owed    int           // answers that a publication in flight will queue
	shrank  chan struct{} // not nil: who waits for room; closed when the queue shrinks
	behind  []*hub.Cursor
	end     *closing
	cancel  func() // not nil: ends what the reader waits for, with the socket
}

// push queues one control frame. A full queue takes it all the same: full is what
// stops the reading of requests, and a peer that does not read gets no more.
func (o *outbox) push(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.control = append(o.control, frame)
	o.bytes += len(frame)
	o.waiting.Store(true)
}

// owe reserves a place for an answer that comes later; pay gives it back.
func (o *outbox) owe() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.owed++
}

func (o *outbox) pay() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.owed--
	o.shrunkLocked()
}

// full reports whether no further request may be read.
func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fullLocked()
}

// halfFull reports whether what the peer has not asked for should wait.
func (o *outbox) halfFull() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.control)+o.owed >= maxControlFrames/2 || o.bytes >= maxControlBytes/2
}

func (o *outbox) fullLocked() bool {
	return len(o.control)+o.owed >= maxControlFrames || o.bytes >= maxControlBytes
}

// untilRoom returns what is closed once the queue has shrunk or the socket ends; nil if
// there is nothing to wait for.
func (o *outbox) untilRoom() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.fullLocked() || o.end != nil {
		return nil
	}
	if o.shrank == nil {
		o.shrank = make(chan struct{})
	}
	return o.shrank
}

// shrunkLocked tells who waits. The lock is held.
func (o *outbox) shrunkLocked() {
	if o.shrank != nil {
		close(o.shrank)
		o.shrank = nil
	}
}

func (o *outbox) behindOf(c *hub.Cursor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.behind = append(o.behind, c)
}

// close notes how the socket ends and reports whether this is the first time.
func (o *outbox) close(how closing) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		return false
	}
	o.end = &how
	if o.cancel != nil {
		o.cancel()
	}
	if o.shrank != nil {
		close(o.shrank) // nobody waits for room any more
		o.shrank = nil
	}
	return true
}

// closing reports whether the socket is ending.
func (o *outbox) closing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end != nil
}

// whileOpen runs what waits, with a context that ends with the socket.
func (o *outbox) whileOpen(f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.onClose(cancel)
	defer o.onClose(nil)
	f(ctx)
}

func (o *outbox) onClose(cancel func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancel = cancel
	if cancel != nil && o.end != nil {
		cancel()
	}
}

func (o *outbox) how() closing {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil {
		return closeGone
	}
	return *o.end
}

// takeControl hands over the control frames: they are appended to dst.
func (o *outbox) takeControl(dst [][]byte) [][]byte {
	if !o.waiting.Load() {
		return dst
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	dst = append(dst, o.control...)
	o.control, o.bytes = nil, 0
	o.waiting.Store(false)
	o.shrunkLocked()
	return dst
}

// take hands over the cursors that need a turn, appended to dst, and how the socket
// is to end, if it is.
func (o *outbox) take(dst []*hub.Cursor) ([]*hub.Cursor, *closing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	dst = append(dst, o.behind...)
	o.behind = nil
	return dst, o.end
}

// reply queues a server frame for the socket.
func (s *session) reply(f *roomcastv1.ServerFrame) {
	s.pushControl(wire.ServerFrame(s.format, f))
}

// replyRaw queues a control frame of RFC 6455 §5.5.
func (s *session) replyRaw(opcode wire.Opcode, payload []byte) {
	s.pushControl(wire.Frame(opcode, payload))
}

func (s *session) pushControl(frame []byte) {
	s.out.push(frame)
	s.signal()
}
