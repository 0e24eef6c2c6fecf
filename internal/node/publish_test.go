package node_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// TestPublishBatchEndToEnd: a full batch over several rooms with bad items among the
// good ones. Each item has its own answer in its place, each room its order, and the
// ids are those of the log.
func TestPublishBatchEndToEnd(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, namespace("eph", func(p *room.Policy) { p.History.Size = 0 }))[0]
	const size, rooms = 1000, 7
	req := &roomcastv1.PublishBatchRequest{}
	stored := make(map[string][]string) // by room, the bodies in order
	for i := range size {
		name, body := "r"+strconv.Itoa(i%rooms), strconv.Itoa(i)
		switch i % 100 {
		case 50:
			name = "eph:1"
		case 51:
			name = "" // refused
		default:
			stored[name] = append(stored[name], body)
		}
		req.Messages = append(req.Messages, text(name, body))
	}
	conn := n.Dial(t)
	resp, err := roomcastv1.NewPublishServiceClient(conn).PublishBatch(bounded(t), req)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(resp.GetResults()); got != size {
		t.Fatalf("%d results, want %d", got, size)
	}
	ids := make(map[string]string) // by body
	for i, r := range resp.GetResults() {
		switch name := req.GetMessages()[i].GetRoom(); {
		case name == "":
			if got := codes.Code(r.GetError().GetCode()); got != codes.InvalidArgument {
				t.Fatalf("item %d: got %v, want %s", i, r, codes.InvalidArgument)
			}
		case r.GetResponse().GetId() == "" || r.GetResponse().GetStored() != (name != "eph:1"):
			t.Fatalf("item %d: got %v", i, r)
		default:
			ids[req.GetMessages()[i].GetText()] = r.GetResponse().GetId()
		}
	}
	for name, want := range stored {
		page, err := roomcastv1.NewHistoryServiceClient(conn).ListMessages(bounded(t),
			&roomcastv1.ListMessagesRequest{Room: name, PageSize: size})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.GetMessages()) != len(want) {
			t.Fatalf("room %s: %d messages, want %d", name, len(page.GetMessages()), len(want))
		}
		for i, m := range page.GetMessages() {
			if m.GetText() != want[i] || m.GetId() != ids[want[i]] {
				t.Fatalf("room %s, message %d: got %v, want %s with id %s", name, i, m, want[i], ids[want[i]])
			}
		}
	}
}

// benchRooms is how many rooms the benchmarks publish to in turn.
const benchRooms = 1000

// benchmarkNode runs a node as in production, tokens required, and returns a client
// with a context that has one. Nobody is subscribed.
func benchmarkNode(b *testing.B) (roomcastv1.PublishServiceClient, context.Context) {
	b.Helper()
	cfg := nodetest.NewConfig(b, 1, namespace("eph", func(p *room.Policy) { p.History.Size = 0 }))
	cfg.Dev = false
	n := nodetest.StartLogging(b, cfg, slog.DiscardHandler)
	token, err := auth.Mint([]byte(nodetest.Key), auth.Claims{
		User: "backend", RPC: []string{auth.RPCPublish}, Rooms: map[string][]string{"*": {auth.RightPublish}}, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(b.Context(), "authorization", "Bearer "+token)
	return roomcastv1.NewPublishServiceClient(n.Dial(b)), ctx
}

// benchmarkPublish runs a benchmark for stored and for ephemeral rooms; next makes
// the next message, of 128 bytes.
func benchmarkPublish(b *testing.B, run func(b *testing.B, next func() *roomcastv1.PublishRequest)) {
	b.Helper()
	body := fmt.Appendf(nil, `{"body":"%0117d"}`, 7)
	for _, rooms := range []string{"stored", "ephemeral"} {
		prefix := "a:"
		if rooms == "ephemeral" {
			prefix = "eph:"
		}
		var count atomic.Uint64
		next := func() *roomcastv1.PublishRequest {
			name := prefix + strconv.FormatUint(count.Add(1)%benchRooms, 10)
			return &roomcastv1.PublishRequest{Room: name, Payload: &roomcastv1.PublishRequest_RawJson{RawJson: body}}
		}
		b.Run("rooms="+rooms, func(b *testing.B) {
			b.ReportAllocs()
			run(b, next)
		})
	}
}

// BenchmarkPublishUnary: 64 calls in flight. As in the next two, client and node are
// in this process and both count.
func BenchmarkPublishUnary(b *testing.B) {
	service, ctx := benchmarkNode(b)
	benchmarkPublish(b, func(b *testing.B, next func() *roomcastv1.PublishRequest) {
		b.Helper()
		var left atomic.Int64
		left.Store(int64(b.N))
		var callers sync.WaitGroup
		for range 64 {
			callers.Go(func() {
				for left.Add(-1) >= 0 {
					if _, err := service.Publish(ctx, next()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		callers.Wait()
	})
}

// BenchmarkPublishBatch: batches of 500, one after the other. An operation is a
// message.
func BenchmarkPublishBatch(b *testing.B) {
	service, ctx := benchmarkNode(b)
	benchmarkPublish(b, func(b *testing.B, next func() *roomcastv1.PublishRequest) {
		b.Helper()
		for sent := 0; sent < b.N; {
			req := &roomcastv1.PublishBatchRequest{}
			for ; sent < b.N && len(req.GetMessages()) < 500; sent++ {
				req.Messages = append(req.Messages, next())
			}
			resp, err := service.PublishBatch(ctx, req)
			if err != nil {
				b.Fatal(err)
			}
			for _, r := range resp.GetResults() {
				if r.GetError() != nil {
					b.Fatal(r.GetError())
				}
			}
		}
	})
}

// BenchmarkPublishStream: one stream, as much in flight as it takes.
func BenchmarkPublishStream(b *testing.B) {
	service, ctx := benchmarkNode(b)
	benchmarkPublish(b, func(b *testing.B, next func() *roomcastv1.PublishRequest) {
		b.Helper()
		stream, err := service.PublishStream(ctx)
		if err != nil {
			b.Fatal(err)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for range b.N {
				if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: next()}); err != nil {
					return // the receiver sees why
				}
			}
			_ = stream.CloseSend()
		})
		for range b.N {
			resp, err := stream.Recv()
			if err != nil || resp.GetResult().GetError() != nil {
				b.Fatal(resp, err)
			}
		}
		if _, err := stream.Recv(); err != io.EOF { //nolint:errorlint // gRPC's own
			b.Fatal(err)
		}
		sender.Wait()
	})
}
