package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// callers publish to a node over one connection.
type callers struct {
	conn    *grpc.ClientConn
	service roomcastv1.PublishServiceClient
	token   string
}

func newCallers(addr, token string) (*callers, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &callers{conn, roomcastv1.NewPublishServiceClient(conn), token}, nil
}

func (c *callers) close() { _ = c.conn.Close() }

func (c *callers) publish(ctx context.Context, way string, from int, acked func(int, time.Duration)) error {
	calls := metadata.AppendToOutgoingContext(context.WithoutCancel(ctx), "authorization", "Bearer "+c.token)
	next := func() *roomcastv1.PublishRequest {
		from++
		return &roomcastv1.PublishRequest{
			Room: fmt.Sprintf("publish-%d", from%publishRooms), Payload: &roomcastv1.PublishRequest_Text{Text: textOf(from)},
		}
	}
	if way == "stream" {
		return c.stream(ctx, calls, next, acked)
	}
	for ctx.Err() == nil {
		began := time.Now()
		if way == "unary" {
			if _, err := c.service.Publish(calls, next()); err != nil {
				return err
			}
			acked(1, time.Since(began))
			continue
		}
		req := &roomcastv1.PublishBatchRequest{}
		for range batchOf {
			req.Messages = append(req.Messages, next())
		}
		resp, err := c.service.PublishBatch(calls, req)
		if err != nil {
			return err
		}
		for _, result := range resp.GetResults() {
			if failure := result.GetError(); failure != nil {
				return errors.New(failure.GetMessage())
			}
		}
		acked(batchOf, time.Since(began))
	}
	return nil
}

func (c *callers) stream(ctx, calls context.Context, next func() *roomcastv1.PublishRequest, acked func(int, time.Duration)) error {
	stream, err := c.service.PublishStream(calls)
	if err != nil {
		return err
	}
	sent := make(chan time.Time, unanswered-1) // one more has been taken out
	group, answered := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(sent)
		for ctx.Err() == nil {
			select {
			case sent <- time.Now():
			case <-answered.Done():
				return stream.CloseSend()
			}
			if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: next()}); err != nil {
				return nil // Recv tells why
			}
		}
		return stream.CloseSend()
	})
	group.Go(func() error {
		for began := range sent {
			resp, err := stream.Recv()
			if err != nil {
				return err
			}
			if failure := resp.GetResult().GetError(); failure != nil {
				return errors.New(failure.GetMessage())
			}
			acked(1, time.Since(began))
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("no end of the stream: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// bare publishes to a stream like a namespace's with nothing but nats.go, over one
// connection.
type bare struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func newBare(ctx context.Context, url string, replicas int) (*bare, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	b := &bare{nc: nc}
	if b.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2*manyCallers*batchOf)); err == nil {
		_, err = b.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "BARE", Subjects: []string{"bare.>"}, Storage: jetstream.FileStorage, Replicas: replicas,
			MaxMsgsPerSubject: 1001, MaxAge: 24 * time.Hour, MaxBytes: 1 << 30, Duplicates: 2 * time.Minute, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: "bare.>", Destination: "live.>"},
		})
	}
	if err != nil {
		nc.Close()
	}
	return b, err
}

func (b *bare) close() { b.nc.Close() }

func (b *bare) publish(ctx context.Context, way string, from int, acked func(int, time.Duration)) error {
	calls := context.WithoutCancel(ctx)
	next := func() (subject string, body []byte, id jetstream.PublishOpt) {
		from++
		return fmt.Sprintf("bare.publish-%d", from%publishRooms), []byte(textOf(from)), jetstream.WithMsgID(nats.NewInbox())
	}
	type pending struct {
		began time.Time
		ack   jetstream.PubAckFuture
	}
	var sent []pending
	window, atOnce := 1, 1 // of a caller; how many acknowledgements are one
	switch way {
	case "batch":
		window, atOnce = batchOf, batchOf
	case "stream":
		window = unanswered
	}
	for ctx.Err() == nil {
		if way == "unary" {
			began := time.Now()
			subject, body, id := next()
			if _, err := b.js.Publish(calls, subject, body, id); err != nil {
				return err
			}
			acked(1, time.Since(began))
			continue
		}
		for len(sent) < window {
			began := time.Now()
			subject, body, id := next()
			ack, err := b.js.PublishAsync(subject, body, id)
			if err != nil {
				return err
			}
			sent = append(sent, pending{began, ack})
		}
		for _, p := range sent[:atOnce] {
			select {
			case <-p.ack.Ok():
			case err := <-p.ack.Err():
				return err
			}
		}
		acked(atOnce, time.Since(sent[0].began))
		sent = append(sent[:0], sent[atOnce:]...)
	}
	return nil
}
