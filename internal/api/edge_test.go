package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

func TestDefaultDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // so that no time passes
		ts := start(t, nil)
		client := roomcastv1.NewPublishServiceClient(ts.conn)
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		long, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, ctx := range []context.Context{t.Context(), short, long} {
			if _, err := client.Publish(ctx, text("a", "x")); err != nil {
				t.Fatal(err)
			}
		}
		if want := []time.Duration{defaultDeadline, 5 * time.Second, time.Hour}; !slices.Equal(ts.deadlines, want) {
			t.Errorf("the calls had %v left, want %v", ts.deadlines, want)
		}
	})
}

func TestPanicIsOneInternalError(t *testing.T) {
	t.Parallel()
	ts := start(t, func(_ *Config, r *recorder) {
		r.answer = func(*room.Publication) (room.Ack, error) {
			panic("secret detail") //nolint:forbidigo // what is tested
		}
	})
	client := roomcastv1.NewPublishServiceClient(ts.conn)
	calls := map[string]func() error{
		"unary": func() error {
			_, err := client.Publish(t.Context(), text("a", "x"))
			return err
		},
		"stream": func() error {
			stream, err := client.PublishStream(t.Context())
			if err != nil {
				return err
			}
			if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: text("a", "x")}); err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	}
	for name, call := range calls {
		st := status.Convert(call())
		want{code: codes.Internal, reason: room.ReasonInternal, text: "internal error, incident "}.check(t, st)
		if strings.Contains(st.String(), "secret") {
			t.Errorf("%s: got %q, want the detail hidden", name, st)
		}
		incident := strings.TrimPrefix(st.Message(), "internal error, incident ")
		logged := ts.logs.lines(incident)
		if len(logged) != 1 || !strings.Contains(logged[0], "secret detail") {
			t.Errorf("%s: got log lines %q for incident %s, want one with the detail", name, logged, incident)
		}
	}
}

func TestNewServerNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := NewServer(Config{}); err == nil || !strings.Contains(err.Error(), "policies") {
		t.Errorf("got %v, want an error that names the policies", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	borrowed := httptest.NewUnstartedServer(nil) // for its certificate
	borrowed.StartTLS()
	defer borrowed.Close()
	certificate := borrowed.TLS.Certificates[0]
	pool := x509.NewCertPool()
	pool.AddCert(borrowed.Certificate())

	plain := start(t, nil)
	server, err := NewServer(Config{
		Policies: plain.server.publish.policies, Publisher: plain.recorder, Log: plain.recorder, Rooms: &hub.Hub{}, Presence: &presence.Presence{}, Connections: &switchboard{}, Nodes: nodes{},
		Anonymous: auth.Everything(), Logger: plain.server.publish.logger,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
	})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(
		credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "example.com"})))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health over TLS: got %v, want an answer", err)
	}
	_ = conn.Close()
	server.Stop(t.Context())
	if err := <-served; err != nil {
		t.Errorf("serve: got %v, want nil", err)
	}
}

// TestStopEndsHealthWatches: a client that watches health never ends by itself.
func TestStopEndsHealthWatches(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	watch, err := healthpb.NewHealthClient(ts.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ts.server.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("stop: the watch held it up until its deadline")
	}
}
