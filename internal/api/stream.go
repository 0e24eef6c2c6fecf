package api

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// What one publish stream may have read and not answered. At the bound it reads no
// more, and gRPC's flow control holds the caller back.
const (
	streamWindow      = 1024    // messages
	streamWindowBytes = 8 << 20 // bytes of payload not yet acknowledged
)

// drainRetry is when a caller whose stream was ended for a drain may come again: at
// once, but not all in the same instant as the news.
const drainRetry = 100 * time.Millisecond

// publishStream is one PublishStream call: a goroutine that reads and publishes, and
// the handler's own, which answers in the order of the requests. Neither waits for
// the other but through the window.
type publishStream struct {
	service  *publishService
	stream   roomcastv1.PublishService_PublishStreamServer
	sequence Sequence
	slots    chan struct{}       // one taken for each message read and not answered
	bytes    *semaphore.Weighted // payload bytes not acknowledged

	// order holds the messages in request order; a slot for each, so that adding never
	// blocks. Closed once nothing more is read, see end.
	order chan *streamItem

	mu     sync.Mutex
	closed bool  // guarded by mu: order is closed
	err    error // guarded by mu until order is closed: how the stream ends
}

// streamItem is one message of a stream.
type streamItem struct {
	outcome chan outcome // gets one
}

// PublishStream publishes messages as they come, in one sequence, and answers them in
// order. A failed one has its own status and the stream goes on. It ends with OK after
// the caller's last message was answered; when the node drains, the stream has its age
// or the token ends, it takes no more messages, answers those that it took, and ends
// with an error. A message without an answer may have been published or not.
func (s *publishService) PublishStream(stream roomcastv1.PublishService_PublishStreamServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	ps := &publishStream{
		service:  s,
		stream:   stream,
		sequence: s.publisher.NewSequence(),
		slots:    make(chan struct{}, streamWindow),
		bytes:    semaphore.NewWeighted(streamWindowBytes),
		order:    make(chan *streamItem, streamWindow),
	}
	s.readers.Go(func() {
		err := ps.read(ctx)
		ps.end(err)
		if _, panicked := errors.AsType[*room.Error](err); panicked {
			cancel(err) // the message at fault will have no outcome; do not wait for it
		}
	})
	return ps.answer(ctx)
}

// read takes messages until the stream ends, and returns how: nil for the caller's
// end, a *room.Error only for a panic. It owns the reading side.
func (ps *publishStream) read(ctx context.Context) (err error) {
	defer recovered(&err)
	for {
		select {
		case ps.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		req, err := ps.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		item := &streamItem{outcome: make(chan outcome, 1)}
		if !ps.enqueue(item) {
			return nil
		}
		ps.publish(ctx, req.GetMessage(), item)
	}
}

// enqueue gives item its place among the answers; false once the stream takes no more.
func (ps *publishStream) enqueue(item *streamItem) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return false
	}
	ps.order <- item // never blocks: it has a slot
	return true
}

// end lets nothing more in; err is how the stream ends once all is answered. The first
// call counts.
func (ps *publishStream) end(err error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return
	}
	ps.closed, ps.err = true, err
	close(ps.order)
}

// publish hands one message to the sequence. Each has a deadline of its own, since a
// stream has none.
func (ps *publishStream) publish(ctx context.Context, req *roomcastv1.PublishRequest, item *streamItem) {
	begun := time.Now()
	p, err := ps.service.accept(ctx, req)
	if err != nil {
		ps.service.meter.published(begun, room.Ack{}, err)
		item.outcome <- outcome{err: inField("message.", err)}
		return
	}
	size := min(int64(len(p.Payload.Bytes)), streamWindowBytes)
	if err := ps.bytes.Acquire(ctx, size); err != nil {
		item.outcome <- outcome{err: err} // the stream has ended
		return
	}
	ctx, cancel := context.WithTimeout(ctx, defaultDeadline)
	ps.sequence.Publish(ctx, p, func(ack room.Ack, err error) {
		cancel()
		ps.bytes.Release(size)
		ps.service.meter.published(begun, ack, err)
		item.outcome <- outcome{room: p.Room, ack: ack, err: err}
	})
}

// answer sends the answers until the stream has ended and all are sent. It owns the
// writing side.
func (ps *publishStream) answer(ctx context.Context) error {
	retire := time.NewTimer(streamAge(ctx))
	defer retire.Stop()
	draining := ps.service.draining.Done()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-draining:
			draining = nil
			ps.end(&room.Error{
				Kind: room.Unavailable, Reason: room.ReasonDraining, RetryAfter: drainRetry,
				Msg: "the node is draining; open another stream",
			})
		case <-retire.C:
			ps.end(retired(ctx))
		case item, ok := <-ps.order:
			if !ok {
				return ps.err
			}
			if err := ps.send(ctx, item); err != nil {
				return err
			}
		}
	}
}

// send waits for one message's outcome and sends it.
func (ps *publishStream) send(ctx context.Context, item *streamItem) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case o := <-item.outcome:
		method := roomcastv1.PublishService_PublishStream_FullMethodName
		err := ps.stream.Send(&roomcastv1.PublishStreamResponse{Result: ps.service.result(ctx, method, o)})
		<-ps.slots
		return err
	}
}

// streamAge returns how long a stream may live: maxStreamAge, or as long as the
// caller's token.
func streamAge(ctx context.Context) time.Duration {
	if caller := callerOf(ctx); caller != nil && !caller.Expires.IsZero() {
		return min(maxStreamAge, time.Until(caller.Expires.Add(auth.Leeway)))
	}
	return maxStreamAge
}

// retired says why a stream has reached its age.
func retired(ctx context.Context) error {
	if caller := callerOf(ctx); caller != nil && caller.Expired(time.Now()) {
		return room.Errorf(room.Unauthenticated, room.ReasonTokenExpired, "the token has expired")
	}
	return &room.Error{
		Kind: room.Unavailable, Reason: room.ReasonDraining, RetryAfter: drainRetry,
		Msg: "the stream has reached its age; open another one",
	}
}
