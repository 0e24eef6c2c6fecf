package api

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// maxBatch is how many messages a PublishBatch may hold.
const maxBatch = 1000

// Publisher takes checked publications to the bus. Its errors are [*room.Error]s or a
// context's.
type Publisher interface {
	// Publish returns once the log has acknowledged p, or ctx ended. Calls are
	// independent of each other: two that overlap are stored in any order.
	Publish(ctx context.Context, p *room.Publication) (room.Ack, error)

	// NewSequence begins a sequence. It needs no end.
	NewSequence() Sequence
}

// Sequence keeps the order of its publications in each room, also through retries.
// One goroutine at a time may call it.
type Sequence interface {
	// Publish returns once p has its place in the sequence; it blocks for back pressure
	// only, no longer than ctx lives. done is called exactly once, soon after ctx ended
	// at the latest, from another goroutine or before Publish returns; it must not block.
	Publish(ctx context.Context, p *room.Publication, done func(room.Ack, error))
}

// publishService is roomcast.v1.PublishService.
type publishService struct {
	roomcastv1.UnimplementedPublishServiceServer

	policies  *room.Policies
	publisher Publisher
	presence  *presence.Presence
	auth      *authenticator
	fail      *failures
	meter     *meter
	logger    *slog.Logger
	draining  context.Context //nolint:containedctx // a signal: done when the server drains

	// readers are the goroutines that read publish streams. Each ends soon after its
	// handler, because grpc-go ends Recv only then.
	readers sync.WaitGroup
}

// Publish is hop 1 of a message's way: it validates, authorises, calls the publisher
// and answers once the log has the message. The interceptor maps its errors.
func (s *publishService) Publish(
	ctx context.Context, req *roomcastv1.PublishRequest,
) (*roomcastv1.PublishResponse, error) {
	begun := time.Now()
	var ack room.Ack
	p := &room.Publication{}
	err := s.accept(ctx, req, p)
	if err == nil {
		ack, err = s.publisher.Publish(ctx, p)
	}
	s.meter.published(begun, ack, err)
	if err != nil {
		return nil, err
	}
	resp := &roomcastv1.PublishResponse{}
	s.acknowledge(ctx, p.Room, ack, resp)
	if req.GetReceipt() {
		resp.Receipt = s.receipt(ctx, p, ack)
	}
	return resp, nil
}

// PublishBatch publishes up to maxBatch messages in one sequence, and answers each by
// its place. It waits for all of them.
func (s *publishService) PublishBatch(
	ctx context.Context, req *roomcastv1.PublishBatchRequest,
) (*roomcastv1.PublishBatchResponse, error) {
	messages := req.GetMessages()
	if len(messages) > maxBatch {
		return nil, room.Invalidf(room.ReasonTooManyMessages, "messages",
			"has %d items; the limit of a batch is %d", len(messages), maxBatch)
	}
	outcomes := make([]outcome, len(messages))
	publications := make([]room.Publication, len(messages))
	sequence := s.publisher.NewSequence()
	var pending sync.WaitGroup
	for i, message := range messages {
		begun := time.Now()
		p := &publications[i]
		if err := s.accept(ctx, message, p); err != nil {
			s.meter.published(begun, room.Ack{}, err)
			outcomes[i].err = inField(fmt.Sprintf("messages[%d].", i), err)
			continue
		}
		outcomes[i].room = p.Room
		pending.Add(1)
		sequence.Publish(ctx, p, func(ack room.Ack, err error) {
			s.meter.published(begun, ack, err)
			outcomes[i].ack, outcomes[i].err = ack, err
			pending.Done()
		})
	}
	pending.Wait()
	var asked *receipts
	for i, message := range messages {
		if message.GetReceipt() && outcomes[i].err == nil {
			asked = asked.ask(ctx, s, i, &publications[i], outcomes[i].ack)
		}
	}
	receipts := asked.wait()

	results := make([]*roomcastv1.PublishResult, len(outcomes))
	parts := make([]result, len(outcomes))
	for i := range outcomes {
		results[i] = s.answer(ctx, roomcastv1.PublishService_PublishBatch_FullMethodName, outcomes[i], &parts[i])
		parts[i].response.Receipt = receipts[i]
	}
	return &roomcastv1.PublishBatchResponse{Results: results}, nil
}

// outcome is what became of one message of a batch or a stream.
type outcome struct {
	room room.Name
	ack  room.Ack
	err  error
}

// result is the answer to one message of a batch or a stream with all that it points
// to, so that it takes one allocation.
type result struct {
	roomcastv1.PublishResult
	good     roomcastv1.PublishResult_Response
	response roomcastv1.PublishResponse
}

// answer converts an outcome into r: the same answer, or the same status, as
// Publish's.
func (s *publishService) answer(ctx context.Context, method string, o outcome, r *result) *roomcastv1.PublishResult {
	if o.err != nil {
		r.Result = &roomcastv1.PublishResult_Error{Error: s.fail.proto(ctx, method, o.err)}
		return &r.PublishResult
	}
	s.acknowledge(ctx, o.room, o.ack, &r.response)
	r.good.Response = &r.response
	r.Result = &r.good
	return &r.PublishResult
}

// acknowledge makes the answer to a message that was published, and leaves the trace
// of hop 1.
func (s *publishService) acknowledge(ctx context.Context, name room.Name, ack room.Ack, resp *roomcastv1.PublishResponse) {
	if s.logger.Enabled(ctx, slog.LevelDebug) {
		s.logger.LogAttrs(ctx, slog.LevelDebug, "publish",
			slog.Int("hop", 1), slog.String("room", string(name)), slog.String("id", ack.ID))
	}
	resp.Id, resp.Stored, resp.Duplicate = ack.ID, ack.Stored, ack.Duplicate
}
