package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// PublishAll publishes messages in order and calls done once for each, in the same
// order, with its result. It returns when all are answered, done returns an error, or
// the stream fails for good.
//
// Every message gets an id if it has none. When the connection breaks, the stream is
// opened again with backoff and the unanswered messages are sent again first, with the
// same ids and in the same order: in a stored room each is stored once and a room's
// messages keep their order. A message is not sent again later than 100 s after its
// first time, since the server forgets ids after 2 minutes; PublishAll then returns the
// failure. A message that the server refuses has Result.Err and the rest goes on; done
// may return it to stop.
//
// done runs in the caller's goroutine. messages runs in its own, so that results do not
// wait for slow input: when PublishAll returns early, that goroutine ends as soon as
// messages yields again or returns, and is not waited for.
func (p *Publisher) PublishAll(ctx context.Context, messages iter.Seq[Message], done func(Message, Result) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := &publishAll{publisher: p, input: feed(ctx, messages), done: done}
	return all.run(ctx)
}

// feed hands messages to a channel, which it closes only after the last.
func feed(ctx context.Context, messages iter.Seq[Message]) <-chan Message {
	input := make(chan Message)
	go func() {
		for m := range messages {
			select {
			case input <- m.identified():
			case <-ctx.Done():
				return
			}
		}
		close(input)
	}()
	return input
}

// publishAll is one call of PublishAll.
type publishAll struct {
	publisher *Publisher
	input     <-chan Message
	done      func(Message, Result) error

	// Owned by run.
	outage time.Time // of the first failure since the last answer
	retry  retrier

	mu         sync.Mutex
	unanswered []sentMessage // guarded by mu; in order
}

type sentMessage struct {
	message Message
	first   time.Time // when it was first sent
}

// run tries until all is answered or trying again is no use.
func (a *publishAll) run(ctx context.Context) error {
	for {
		again, err := a.try(ctx)
		if !again {
			return err
		}
		a.retry.since = a.since()
		if err := a.retry.wait(ctx, rpcFailure(err)); err != nil {
			return err
		}
	}
}

// rpcFailure returns the *Error that a stream ended with.
func rpcFailure(err error) *Error {
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure
	}
	return &Error{Code: codes.Unknown, Message: err.Error()}
}

// since returns when what must be sent again was first sent; if nothing was, when the
// outage began.
func (a *publishAll) since() time.Time {
	if a.outage.IsZero() {
		a.outage = time.Now()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unanswered) > 0 {
		return a.unanswered[0].first
	}
	return a.outage
}

// try publishes over one stream. again reports that the stream broke, which is worth
// another try if the error is UNAVAILABLE.
func (a *publishAll) try(ctx context.Context) (again bool, err error) {
	stream, err := a.publisher.Stream(ctx)
	if err != nil {
		return true, err
	}
	var sender sync.WaitGroup
	sender.Go(func() { a.send(ctx, stream) })
	defer sender.Wait()
	defer stream.Close()
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return true, err
		}
		if err := a.done(a.answered(), r); err != nil {
			return false, err
		}
		a.outage = time.Time{}
		a.retry.backoff.reset()
	}
}

// answered takes the oldest message off the unanswered ones.
func (a *publishAll) answered() Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	oldest := a.unanswered[0]
	a.unanswered[0] = sentMessage{} // its body may be large
	a.unanswered = a.unanswered[1:]
	return oldest.message
}

// send sends what is unanswered, then new messages, until the stream or the input ends.
func (a *publishAll) send(ctx context.Context, stream *Stream) {
	a.mu.Lock()
	again := append([]sentMessage(nil), a.unanswered...) // the receiver shortens it meanwhile
	a.mu.Unlock()
	for _, m := range again {
		if stream.Send(m.message) != nil {
			return
		}
	}
	for {
		select {
		case m, more := <-a.input:
			if !more {
				_ = stream.CloseSend() // a broken stream shows in Recv
				return
			}
			if a.sendNew(stream, m) != nil {
				return
			}
		case <-stream.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sendNew notes the message before it sends it, so that no break can lose it.
func (a *publishAll) sendNew(stream *Stream, m Message) error {
	a.mu.Lock()
	a.unanswered = append(a.unanswered, sentMessage{message: m, first: time.Now()})
	a.mu.Unlock()
	return stream.Send(m)
}
