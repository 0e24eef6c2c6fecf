package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/bench"
	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// TestRawWriter: the load generator takes the raw writer for a node, and gets everything.
func TestRawWriter(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := filepath.Join(t.TempDir(), "ready"), make(chan error)
	go func() { ended <- rawWriter(ctx, ready) }()
	var addrs node.Addrs
	nodetest.Eventually(t, startPatience, "the raw writer's addresses", func() bool {
		text, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(text, &addrs) == nil
	})
	conn, err := grpc.NewClient(addrs.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	run, err := bench.New(bench.Config{
		URLs: []string{"http://" + addrs.HTTP}, Duration: 200 * time.Millisecond,
		Load: bench.Load{Rooms: 1, Sockets: 20, InFlight: 4, Payload: 128, RoomPrefix: "bench-"},
	}, roomcastv1.NewPublishServiceClient(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := run.Run(t.Context())
	if err != nil || report.Errors.Any() || report.Delivery.Count == 0 {
		t.Errorf("%v, %+v", err, report)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestRawFrameIsAsLong: as a node's frame of a message of the table.
func TestRawFrameIsAsLong(t *testing.T) {
	t.Parallel()
	frame := rawFrame(&roomcastv1.PublishRequest{
		Room: "bench-0", Payload: &roomcastv1.PublishRequest_Text{Text: strings.Repeat("x", 128)},
	})
	if n := len(frame); n < 230 || n > 255 {
		t.Errorf("%d bytes: %s", n, frame)
	}
}
