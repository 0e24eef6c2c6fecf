package client

import (
	"context"
	"sync"
)

// How much a subscription holds for a consumer that is busy.
const (
	queueEvents = 1024
	queueBytes  = 1 << 20
)

// queue is the bounded buffer between the socket's reader and Next. push blocks when
// it is full; it never drops an event.
type queue struct {
	readable chan struct{} // one slot: there may be an event
	writable chan struct{} // one slot: there may be room
	closed   chan struct{} // closed by close

	mu     sync.Mutex
	events []queuedEvent // guarded by mu
	bytes  int           // guarded by mu
	err    error         // guarded by mu; why it was closed
}

type queuedEvent struct {
	event Event
	bytes int
}

func newQueue() *queue {
	return &queue{
		readable: make(chan struct{}, 1),
		writable: make(chan struct{}, 1),
		closed:   make(chan struct{}),
	}
}

// push appends an event that holds so many bytes. It fails only when the context ends.
func (q *queue) push(ctx context.Context, event Event, bytes int) error {
	return q.until(ctx, func() bool { return q.offer(event, bytes) })
}

// until calls done, which offers, again and again, whenever there may be room, until
// it reports true. It fails only when the context ends.
func (q *queue) until(ctx context.Context, done func() bool) error {
	for waited := false; ; waited = true {
		if done() {
			if waited {
				signal(q.writable) // for another goroutine in until
			}
			return nil
		}
		select {
		case <-q.writable:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// offer appends the event if there is room. An empty queue takes any event.
func (q *queue) offer(event Event, bytes int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.events); n > 0 && (n >= queueEvents || q.bytes+bytes > queueBytes) {
		return false
	}
	q.events = append(q.events, queuedEvent{event, bytes})
	q.bytes += bytes
	signal(q.readable)
	return true
}

// next takes the oldest event. After close it goes on until the queue is empty, then
// returns the reason.
func (q *queue) next(ctx context.Context) (Event, error) {
	for {
		if event, err := q.take(); event != nil || err != nil {
			return event, err
		}
		select {
		case <-q.readable:
		case <-q.closed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (q *queue) take() (Event, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return nil, q.err
	}
	oldest := q.events[0]
	q.events[0] = queuedEvent{}
	q.events = q.events[1:]
	q.bytes -= oldest.bytes
	if len(q.events) > 0 {
		signal(q.readable) // for another goroutine in next
	}
	signal(q.writable)
	return oldest.event, nil
}

// close lets next return err once the queue is empty.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
		close(q.closed)
	}
}

// reason returns why the queue was closed, or nil.
func (q *queue) reason() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// discard empties the queue.
func (q *queue) discard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events, q.bytes = nil, 0
}

// signal fills a one-slot channel.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
