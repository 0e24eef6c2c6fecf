package api

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

func TestPurgeRoom(t *testing.T) {
	t.Parallel()
	ts := start(t, func(cfg *Config, r *recorder) {
		production(cfg, r)
		r.pages["orders:1"] = stored("orders:1", 3, `1`)
	})
	ctx := bearer(t, auth.Claims{User: "ops", RPC: []string{"history"}, Rooms: map[string][]string{"orders:*": {"subscribe"}}})
	client := roomcastv1.NewHistoryServiceClient(ts.conn)
	for _, want := range []uint32{3, 0} {
		resp, err := client.PurgeRoom(ctx, &roomcastv1.PurgeRoomRequest{Room: "orders:1"})
		if err != nil || resp.GetPurged() != want {
			t.Errorf("got %d, %v; want %d", resp.GetPurged(), err, want)
		}
	}
	if lines := ts.logs.lines("room purged"); len(lines) != 2 || !strings.Contains(lines[0], "by.user=ops") || !strings.Contains(lines[0], "room=orders:1") {
		t.Errorf("logged %v, want who purged which room", lines)
	}
}

func TestPurgeRoomRefuses(t *testing.T) {
	t.Parallel()
	rooms := map[string][]string{"orders:*": {"subscribe"}, "live:*": {"subscribe"}}
	denied := want{code: codes.PermissionDenied, reason: room.ReasonForbidden, text: "history"}
	tests := map[string]struct {
		rpc  string
		room string
		want want
	}{
		"no room":        {"history", "", want{code: codes.InvalidArgument, reason: room.ReasonInvalidRoom, field: "room"}},
		"another room":   {"history", "users:1", denied},
		"another right":  {"publish", "orders:1", denied},
		"ephemeral room": {"history", "live:1", want{code: codes.FailedPrecondition, reason: room.ReasonNoHistory}},
	}
	ts := start(t, func(cfg *Config, r *recorder) {
		production(cfg, r)
		r.pages["orders:1"] = stored("orders:1", 3, `1`)
	})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := bearer(t, auth.Claims{RPC: []string{tt.rpc}, Rooms: rooms})
			_, err := roomcastv1.NewHistoryServiceClient(ts.conn).PurgeRoom(ctx, &roomcastv1.PurgeRoomRequest{Room: tt.room})
			tt.want.check(t, status.Convert(err))
		})
	}
	t.Cleanup(func() {
		if page, _ := ts.Read(context.WithoutCancel(t.Context()), "orders:1", room.Position{}, 10); len(page.Messages) != 3 {
			t.Errorf("%d messages are left, want 3", len(page.Messages))
		}
	})
}
