package bench

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// publisher sends a load's messages. It uses the generated client and not ours, which
// would try again what failed and hide it.
type publisher struct {
	load    *load
	service roomcastv1.PublishServiceClient
}

// run publishes until the context publishing ends, and returns once every call is
// answered; ctx ends the calls. The error means that it could not go on; refused
// messages are counted as problems.
func (p *publisher) run(ctx, publishing context.Context) error {
	publishing, stop := context.WithCancel(publishing)
	defer stop()
	from := newSource(p.load)
	group, ctx := errgroup.WithContext(ctx)
	if from.due != nil {
		group.Go(func() error { return from.schedule(publishing) })
	}
	for range p.load.Publishers {
		group.Go(func() error {
			err := p.publish(ctx, publishing, from)
			if err != nil {
				stop() // the schedule's as well
			}
			return err
		})
	}
	return group.Wait()
}

func (p *publisher) publish(ctx, publishing context.Context, from *source) error {
	switch p.load.Mode {
	case Batch:
		return p.batches(ctx, publishing, from)
	case Stream:
		return p.stream(ctx, publishing, from)
	default:
		return p.calls(ctx, publishing, from)
	}
}

// calls publishes one message a call.
func (p *publisher) calls(ctx, publishing context.Context, from *source) error {
	for publishing.Err() == nil {
		m, ok := from.next(publishing)
		if !ok {
			return nil
		}
		if _, err := p.service.Publish(ctx, m.req); err != nil {
			p.load.refused(m, err)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// batches publishes what is due, many messages a call.
func (p *publisher) batches(ctx, publishing context.Context, from *source) error {
	var batch []message
	for publishing.Err() == nil {
		m, ok := from.next(publishing)
		if !ok {
			return nil
		}
		req := &roomcastv1.PublishBatchRequest{Messages: []*roomcastv1.PublishRequest{m.req}}
		batch = append(batch[:0], m)
		for len(batch) < p.load.Batch {
			if m, ok = from.tryNext(); !ok {
				break
			}
			batch = append(batch, m)
			req.Messages = append(req.Messages, m.req)
		}
		resp, err := p.service.PublishBatch(ctx, req)
		if err == nil && len(resp.GetResults()) != len(batch) {
			return fmt.Errorf("publish batch: %d answers to %d messages", len(resp.GetResults()), len(batch))
		}
		for i, m := range batch {
			if err != nil {
				p.load.refused(m, err)
			} else {
				p.judge(m, resp.GetResults()[i])
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// judge counts a message that was refused inside an answer.
func (p *publisher) judge(m message, result *roomcastv1.PublishResult) {
	if failure := result.GetError(); failure != nil {
		p.load.refused(m, fmt.Errorf("code %d: %s", failure.GetCode(), failure.GetMessage()))
	}
}

// stream publishes all messages over one stream.
func (p *publisher) stream(ctx, publishing context.Context, from *source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rpc, err := p.service.PublishStream(ctx)
	if err != nil {
		return fmt.Errorf("publish stream: %w", err)
	}
	unanswered := make(chan message, p.load.InFlight+1) // room for what the window holds; more wait for an answer
	group, _ := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(unanswered)
		for publishing.Err() == nil && ctx.Err() == nil {
			m, ok := from.next(publishing)
			if !ok {
				break
			}
			select {
			case unanswered <- m:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := rpc.Send(&roomcastv1.PublishStreamRequest{Message: m.req}); err != nil {
				break // Recv tells why
			}
		}
		return rpc.CloseSend()
	})
	group.Go(func() error {
		err := p.answers(rpc.Recv, unanswered)
		if err != nil {
			cancel()
		}
		return err
	})
	return group.Wait()
}

// answers pairs the answers of a stream with its messages.
func (p *publisher) answers(recv func() (*roomcastv1.PublishStreamResponse, error), unanswered <-chan message) error {
	for m := range unanswered {
		resp, err := recv()
		if err != nil {
			p.load.refused(m, err)
			return fmt.Errorf("publish stream: %w", err)
		}
		p.judge(m, resp.GetResult())
	}
	if _, err := recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("publish stream: no end after the last answer: %w", err)
	}
	return nil
}
