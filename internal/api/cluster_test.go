package api

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// nodes is a cluster of n1, which counts a second of its drain as a socket.
type nodes struct{}

func (nodes) DrainNode(_ context.Context, node string, over time.Duration) (sockets int, err error) {
	if node != "n1" {
		return 0, room.Errorf(room.NotFound, room.ReasonNoSuchNode, "there is no live node %q", node)
	}
	return int(over.Seconds()), nil
}

func TestDrainNode(t *testing.T) {
	t.Parallel()
	cluster := roomcastv1.NewClusterServiceClient(start(t, nil).conn)
	tests := map[string]struct {
		node    string
		over    *durationpb.Duration
		code    codes.Code
		message string
		sockets uint32
	}{
		"its own window": {node: "n1"},
		"over 7 s":       {node: "n1", over: durationpb.New(7 * time.Second), sockets: 7},
		"an hour":        {node: "n1", over: durationpb.New(time.Hour), sockets: 3600},
		"no node":        {code: codes.InvalidArgument, message: "node is empty; ListNodes names the nodes"},
		"nobody":         {node: "n2", code: codes.NotFound, message: `there is no live node "n2"`},
		"zero":           {node: "n1", over: durationpb.New(0), code: codes.InvalidArgument, message: "over must be more than 0s and at most 1h0m0s"},
		"too long":       {node: "n1", over: durationpb.New(time.Hour + 1), code: codes.InvalidArgument, message: "over must be more than 0s and at most 1h0m0s"},
		"no duration":    {node: "n1", over: &durationpb.Duration{Nanos: -1, Seconds: 1}, code: codes.InvalidArgument, message: "over must be more than 0s and at most 1h0m0s"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, err := cluster.DrainNode(t.Context(), &roomcastv1.DrainNodeRequest{Node: tt.node, Over: tt.over})
			if status.Code(err) != tt.code || status.Convert(err).Message() != tt.message || resp.GetConnections() != tt.sockets {
				t.Errorf("got %d, %v", resp.GetConnections(), err)
			}
		})
	}
}
