package api

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// production refuses callers without credentials.
func production(cfg *Config, _ *recorder) { cfg.Anonymous = nil }

func TestCredentials(t *testing.T) {
	t.Parallel()
	raw := func(value ...string) func(*testing.T) context.Context {
		return func(t *testing.T) context.Context {
			t.Helper()
			var md []string
			for _, v := range value {
				md = append(md, "authorization", v)
			}
			return metadata.AppendToOutgoingContext(t.Context(), md...)
		}
	}
	claims := func(c auth.Claims) func(*testing.T) context.Context {
		return func(t *testing.T) context.Context {
			t.Helper()
			return bearer(t, c)
		}
	}
	rooms := map[string][]string{"orders:*": {"publish"}}
	denied := want{code: codes.PermissionDenied, reason: room.ReasonForbidden}
	invalid := want{code: codes.Unauthenticated, reason: room.ReasonTokenInvalid}
	tests := map[string]struct {
		ctx  func(*testing.T) context.Context
		want want
	}{
		"none":          {raw(), want{code: codes.Unauthenticated, reason: room.ReasonTokenMissing, text: "no credentials"}},
		"empty":         {raw(""), invalid},
		"another kind":  {raw("Basic YTpi"), invalid},
		"two":           {raw("Bearer a.b.c", "Bearer a.b.c"), invalid},
		"no token":      {raw("Bearer a.b.c"), invalid},
		"expired":       {claims(auth.Claims{RPC: []string{"publish"}, Rooms: rooms, Expires: time.Now().Add(-time.Hour)}), want{code: codes.Unauthenticated, reason: room.ReasonTokenExpired}},
		"no rpc":        {claims(auth.Claims{Rooms: rooms}), denied},
		"another rpc":   {claims(auth.Claims{RPC: []string{"history"}, Rooms: rooms}), denied},
		"no rooms":      {claims(auth.Claims{RPC: []string{"publish"}}), denied},
		"another room":  {claims(auth.Claims{RPC: []string{"publish"}, Rooms: map[string][]string{"chat:*": {"publish"}}}), denied},
		"another right": {claims(auth.Claims{RPC: []string{"publish"}, Rooms: map[string][]string{"orders:*": {"subscribe"}}}), want{}}, // the rights are those of sockets
		"good":          {claims(auth.Claims{RPC: []string{"publish"}, Rooms: rooms}), want{}},
	}
	ts := start(t, production)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := roomcastv1.NewPublishServiceClient(ts.conn)
			_, err := client.Publish(tt.ctx(t), text("orders:42", "x"))
			if tt.want.code == codes.OK {
				if err != nil {
					t.Errorf("publish: got %v, want OK", err)
				}
				return
			}
			tt.want.check(t, status.Convert(err))
		})
	}
}

func TestCredentialsOfStreams(t *testing.T) {
	t.Parallel()
	ts := start(t, production)
	stream, err := roomcastv1.NewPublishServiceClient(ts.conn).PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	want{code: codes.Unauthenticated, reason: room.ReasonTokenMissing}.check(t, status.Convert(err))
}

// TestBadTokenIsNotAnonymous: a development node that lets callers in without
// credentials must not hide that the ones they sent are wrong.
func TestBadTokenIsNotAnonymous(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer a.b.c")
	_, err := roomcastv1.NewPublishServiceClient(ts.conn).Publish(ctx, text("a", "x"))
	want{code: codes.Unauthenticated, reason: room.ReasonTokenInvalid}.check(t, status.Convert(err))
}

func TestEveryServiceNeedsItsRight(t *testing.T) {
	t.Parallel()
	ts := start(t, production)
	ctx := bearer(t, auth.Claims{RPC: []string{"publish"}})
	calls := map[string]func() error{
		"history": func() error {
			_, err := roomcastv1.NewHistoryServiceClient(ts.conn).ListMessages(ctx, &roomcastv1.ListMessagesRequest{Room: "a"})
			return err
		},
		"presence": func() error {
			_, err := roomcastv1.NewPresenceServiceClient(ts.conn).GetRoom(ctx, &roomcastv1.GetRoomRequest{Room: "a"})
			return err
		},
		"connections": func() error {
			_, err := roomcastv1.NewConnectionServiceClient(ts.conn).ListConnections(ctx, &roomcastv1.ListConnectionsRequest{})
			return err
		},
		"cluster": func() error {
			_, err := roomcastv1.NewClusterServiceClient(ts.conn).ListNodes(ctx, &roomcastv1.ListNodesRequest{})
			return err
		},
	}
	for right, call := range calls {
		t.Run(right, func(t *testing.T) {
			t.Parallel()
			want{code: codes.PermissionDenied, reason: room.ReasonForbidden, text: right}.check(t, status.Convert(call()))
		})
	}
}

func TestHealthAndReflectionNeedNoCredentials(t *testing.T) {
	t.Parallel()
	ts := start(t, production)
	health := healthpb.NewHealthClient(ts.conn)
	for _, service := range []string{"", "roomcast.v1.PublishService"} {
		for _, serving := range []bool{false, true} {
			ts.server.SetServing(serving)
			resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || (resp.GetStatus() == healthpb.HealthCheckResponse_SERVING) != serving {
				t.Errorf("health of %q: got %v, %v, want serving %t", service, resp.GetStatus(), err, serving)
			}
		}
	}
	stream, err := reflectionpb.NewServerReflectionClient(ts.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, service := range resp.GetListServicesResponse().GetService() {
		listed[service.GetName()] = true
	}
	for _, service := range []string{"PublishService", "HistoryService", "PresenceService", "ConnectionService", "ClusterService"} {
		if !listed["roomcast.v1."+service] {
			t.Errorf("reflection: got %v, want %s among them", listed, service)
		}
	}
}

func TestReflectionIsASetting(t *testing.T) {
	t.Parallel()
	ts := start(t, func(cfg *Config, _ *recorder) { cfg.Reflection = false })
	stream, err := reflectionpb.NewServerReflectionClient(ts.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want %s", err, codes.Unimplemented)
	}
}
