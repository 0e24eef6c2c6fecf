package api

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

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

	deadlines deadlines // owned by the reader

	news  chan struct{} // has one: the oldest message has its outcome, or nothing more is taken
	space chan struct{} // has one: the window has room again

	mu     sync.Mutex
	items  []*streamItem // guarded by mu: taken and not yet being answered, oldest first
	open   int           // guarded by mu: messages taken and not answered
	bytes  int           // guarded by mu: payload bytes not acknowledged
	full   bool          // guarded by mu: the reader waits for space
	closed bool          // guarded by mu: nothing more is taken
	err    error         // guarded by mu: how the stream ends, once closed
}

// streamItem is one message of a stream.
type streamItem struct {
	stream      *publishStream
	begun       time.Time
	publication room.Publication
	size        int // bytes that it takes of the window until it is acknowledged

	// guarded by publishStream.mu
	outcome outcome
	known   bool // outcome is

	receipt bool // static; wants one
}

// PublishStream publishes messages as they come, in one sequence, and answers them in
// order. A failed one has its own status and the stream goes on. It ends with OK after
// the caller's last message was answered; when the node drains, the stream has its age
// or the token ends or was revoked, it takes no more messages, answers those that it
// took, and ends with an error. A message without an answer may have been published or
// not.
func (s *publishService) PublishStream(stream roomcastv1.PublishService_PublishStreamServer) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	ps := &publishStream{
		service:  s,
		stream:   stream,
		sequence: s.publisher.NewSequence(),
		news:     make(chan struct{}, 1),
		space:    make(chan struct{}, 1),
	}
	s.readers.Go(func() {
		err := ps.read(ctx)
		ps.end(err)
		if _, panicked := errors.AsType[*room.Error](err); panicked {
			cancel(err) // the message at fault will have no outcome; do not wait for it
		}
	})
	defer context.AfterFunc(s.draining, func() {
		ps.end(drains("open another stream"))
	})()
	retire := time.AfterFunc(streamAge(ctx), func() { ps.end(retired(ctx)) })
	defer retire.Stop()
	return ps.answer(ctx)
}

// read takes messages until the stream ends, and returns how: nil for the caller's
// end, a *room.Error only for a panic. It owns the reading side.
func (ps *publishStream) read(ctx context.Context) (err error) {
	defer recovered(&err)
	for {
		if err := ps.wait(ctx, func() bool { return ps.open < streamWindow }); err != nil {
			return err
		}
		req, err := ps.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ps.service.auth.revoked(ctx); err != nil {
			ps.end(err)
			return nil
		}
		item := &streamItem{stream: ps, begun: time.Now(), receipt: req.GetMessage().GetReceipt()}
		if !ps.take(item) {
			return nil
		}
		ps.publish(ctx, req.GetMessage(), item)
	}
}

// wait waits until fits, which is called with mu held, finds room in the window. Only
// the reader calls it.
func (ps *publishStream) wait(ctx context.Context, fits func() bool) error {
	for {
		ps.mu.Lock()
		ps.full = !fits()
		full := ps.full
		ps.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-ps.space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// freedLocked tells a waiting reader that the window has changed.
func (ps *publishStream) freedLocked() {
	if ps.full {
		signal(ps.space)
	}
}

// take gives item its place among the answers; false once the stream takes no more.
func (ps *publishStream) take(item *streamItem) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.closed {
		return false
	}
	ps.items = append(ps.items, item)
	ps.open++
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
	signal(ps.news)
}

// publish hands one message to the sequence, with a deadline of its own, since a stream
// has none.
func (ps *publishStream) publish(ctx context.Context, req *roomcastv1.PublishRequest, item *streamItem) {
	p := &item.publication
	if err := ps.service.accept(ctx, req, p); err != nil {
		item.done(room.Ack{}, inField("message.", err))
		return
	}
	size := min(len(p.Payload.Bytes), streamWindowBytes)
	if err := ps.wait(ctx, func() bool { return ps.bytes+size <= streamWindowBytes }); err != nil {
		item.done(room.Ack{}, err)
		return
	}
	item.size = size
	ps.mu.Lock()
	ps.bytes += size
	ps.mu.Unlock()
	ps.sequence.Publish(ps.deadlines.context(ctx, time.Now()), p, item.done)
}

// done takes the outcome of a message.
func (item *streamItem) done(ack room.Ack, err error) {
	ps := item.stream
	ps.service.meter.published(item.begun, ack, err)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	item.outcome, item.known = outcome{room: item.publication.Room, ack: ack, err: err}, true
	if item.size > 0 {
		ps.bytes -= item.size
		ps.freedLocked()
	}
	if ps.items[0] == item {
		signal(ps.news)
	}
}

// answer sends the answers until the stream has ended and all are sent. It owns the
// writing side.
func (ps *publishStream) answer(ctx context.Context) error {
	var items []*streamItem
	for {
		var ended bool
		if items, ended = ps.known(items[:0]); ended {
			return ps.err
		}
		var asked *receipts
		for i, item := range items {
			if item.receipt && item.outcome.err == nil {
				asked = asked.ask(ctx, ps.service, i, &item.publication, item.outcome.ack)
			}
		}
		receipts := asked.wait()
		for i, item := range items {
			if err := ps.send(ctx, item.outcome, receipts[i]); err != nil {
				return err
			}
		}
		clear(items)
		if len(items) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ps.news:
		}
	}
}

// known takes the messages that can be answered now, oldest first, and appends them to
// dst. ended reports that all were answered and none will follow.
func (ps *publishStream) known(dst []*streamItem) (_ []*streamItem, ended bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	n := 0
	for n < len(ps.items) && ps.items[n].known {
		n++
	}
	dst = append(dst, ps.items[:n]...)
	ps.items = slices.Delete(ps.items, 0, n)
	return dst, ps.closed && len(dst) == 0 && len(ps.items) == 0
}

// send answers one message.
func (ps *publishStream) send(ctx context.Context, o outcome, receipt *roomcastv1.Receipt) error {
	var answer struct {
		roomcastv1.PublishStreamResponse
		result
	}
	method := roomcastv1.PublishService_PublishStream_FullMethodName
	answer.Result = ps.service.answer(ctx, method, o, &answer.result)
	answer.response.Receipt = receipt
	err := ps.stream.Send(&answer.PublishStreamResponse)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.open--
	ps.freedLocked()
	return err
}

// signal leaves a note in a channel of one, unless there is one already.
func signal(note chan<- struct{}) {
	select {
	case note <- struct{}{}:
	default:
	}
}

// deadlines gives messages contexts that end defaultDeadline after they came. Those
// that come within deadlineSlack share one: a context and a timer for each would cost
// as much as the rest of the way. Each ends by its own deadline or with the stream.
type deadlines struct {
	shared context.Context    //nolint:containedctx // of the newest messages
	cancel context.CancelFunc // not called: messages of the one before may still wait
	since  time.Time
}

// deadlineSlack is how much earlier than its deadline a message may be given up.
const deadlineSlack = 100 * time.Millisecond

func (d *deadlines) context(ctx context.Context, now time.Time) context.Context {
	if d.shared == nil || now.Sub(d.since) >= deadlineSlack {
		d.shared, d.cancel = context.WithDeadline(ctx, now.Add(defaultDeadline)) //nolint:gosec // see cancel
		d.since = now
	}
	return d.shared
}

// streamAge returns how long a stream may live: maxStreamAge, or as long as the
// caller's token.
func streamAge(ctx context.Context) time.Duration {
	if caller := callerOf(ctx); caller != nil && !caller.Expires.IsZero() {
		return min(maxStreamAge, time.Until(caller.Expires.Add(auth.Leeway)))
	}
	return maxStreamAge
}

// drains is how a stream ends for a drain.
func drains(advice string) *room.Error {
	return &room.Error{
		Kind: room.Unavailable, Reason: room.ReasonDraining, RetryAfter: drainRetry,
		Msg: "the node is draining; " + advice,
	}
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
