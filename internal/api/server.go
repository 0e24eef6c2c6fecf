package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // callers may compress
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// Limits of the edge.
const (
	// defaultDeadline is the time for a unary call without a deadline, and for each
	// message of a stream.
	defaultDeadline = 15 * time.Second

	// hardCap is the largest request in bytes that reaches our own check, which names
	// the limit of the namespace; grpc-go refuses larger ones with
	// RESOURCE_EXHAUSTED. It bounds a PublishBatch.
	hardCap = 8 << 20

	// requestOverhead is room for a request's fields besides the payload, in bytes.
	requestOverhead = 64 << 10

	// minPingInterval is how often callers may ping; faster ones get GOAWAY.
	minPingInterval = 10 * time.Second

	// Connections are asked to go after maxConnectionAge, so that callers spread over
	// nodes that were added. Streams end by themselves after maxStreamAge, all
	// answered; the grace is longer, so no stream is ever cut.
	maxConnectionAge      = 30 * time.Minute
	maxStreamAge          = 30 * time.Minute
	maxConnectionAgeGrace = 35 * time.Minute

	// maxStreams is how many calls one connection may have open.
	maxStreams = 1000

	// unreadGrace is how long a drain waits for watches that have been told to end: who
	// does not read does not take the end either.
	unreadGrace = time.Second

	// streamWorkers is how many goroutines are kept for calls: a new one for each call
	// grows its stack each time. A call that waits for the log holds one, so there are
	// more than processors; beyond them calls get goroutines of their own.
	streamWorkers = 64
)

// Config is what the edge needs. Policies, Publisher, Log, Rooms, Presence, Connections, Nodes
// and Logger must be set.
type Config struct {
	Policies    *room.Policies
	Publisher   Publisher
	Log         Log
	Rooms       Rooms
	Presence    *presence.Presence
	Connections Connections
	Nodes       Nodes
	Verifier    Verifier         // checks bearer tokens; nil = every token is refused
	Anonymous   *auth.Caller     // who calls without credentials (dev); nil = refused
	Reflection  bool             // serve gRPC reflection, which needs no credentials
	TLS         *tls.Config      // nil = plaintext; client certificates as it says
	Metrics     *metrics.Metrics // nil = not counted
	Logger      *slog.Logger
}

// Server is the control listener's gRPC server.
type Server struct {
	grpc    *grpc.Server
	health  *health.Server
	publish *publishService
	edge    *edge
	drain   context.CancelFunc // tells streams to end
}

// NewServer makes the server. It answers health checks with NOT_SERVING until
// [Server.SetServing].
func NewServer(cfg Config) (*Server, error) {
	switch {
	case cfg.Policies == nil:
		return nil, errors.New("api: no policies")
	case cfg.Publisher == nil || cfg.Log == nil || cfg.Rooms == nil || cfg.Presence == nil || cfg.Connections == nil || cfg.Nodes == nil:
		return nil, errors.New("api: no publisher, no log, no rooms, no presence, no connections or no nodes")
	case cfg.Logger == nil:
		return nil, errors.New("api: no logger")
	case cfg.Verifier == nil && cfg.Anonymous == nil:
		return nil, errors.New("api: neither a verifier nor an anonymous caller: nobody could call")
	}
	draining, drain := context.WithCancel(context.Background())
	s := &Server{health: health.NewServer(), drain: drain}
	fail := &failures{logger: cfg.Logger}
	meter := newMeter(cfg.Metrics)
	callers := &authenticator{verifier: cfg.Verifier, anonymous: cfg.Anonymous}
	edge := &edge{
		auth:     callers,
		fail:     fail,
		meter:    meter,
		draining: draining,
	}
	s.edge = edge
	s.grpc = grpc.NewServer(serverOptions(cfg, edge)...)
	s.publish = &publishService{
		policies:  cfg.Policies,
		publisher: cfg.Publisher,
		presence:  cfg.Presence,
		auth:      callers,
		fail:      fail,
		meter:     meter,
		logger:    cfg.Logger,
		draining:  draining,
	}
	s.register(cfg)
	s.SetServing(false)
	return s, nil
}

func serverOptions(cfg Config, edge *edge) []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             minPingInterval,
			PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge:      maxConnectionAge,
			MaxConnectionAgeGrace: maxConnectionAgeGrace,
		}),
		grpc.MaxRecvMsgSize(max(hardCap, cfg.Policies.MaxPayload()+requestOverhead)),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(edge.unary),
		grpc.StreamInterceptor(edge.stream),
	}
	if cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	return options
}

func (s *Server) register(cfg Config) {
	roomcastv1.RegisterPublishServiceServer(s.grpc, s.publish)
	roomcastv1.RegisterHistoryServiceServer(s.grpc, &historyService{
		policies: cfg.Policies, log: cfg.Log, rooms: cfg.Rooms, logger: cfg.Logger, draining: s.publish.draining,
	})
	roomcastv1.RegisterPresenceServiceServer(s.grpc, &presenceService{presence: cfg.Presence, connections: cfg.Connections, draining: s.publish.draining})
	roomcastv1.RegisterConnectionServiceServer(s.grpc, &connectionService{connections: cfg.Connections, logger: cfg.Logger})
	roomcastv1.RegisterClusterServiceServer(s.grpc, &clusterService{
		policies: cfg.Policies, presence: cfg.Presence, log: cfg.Log, nodes: cfg.Nodes,
	})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
}

// Serve answers on lis until [Server.Stop], then returns nil. It closes lis.
func (s *Server) Serve(lis net.Listener) error {
	return s.grpc.Serve(lis)
}

// SetServing sets the answer of health checks, for the empty name and for
// roomcast.v1.PublishService. Calls are served whatever it says.
func (s *Server) SetServing(serving bool) {
	answer := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		answer = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", answer)
	s.health.SetServingStatus(roomcastv1.PublishService_ServiceDesc.ServiceName, answer)
}

// Stop refuses new calls and lets open ones finish. Publish streams take no more
// messages, answer those they have and end with UNAVAILABLE (DRAINING); watches end so
// at once. Calls are cut when ctx ends, when they have had the time of a call without
// a deadline, and when all that are left for a second are watches: their callers do
// not read. When it returns nothing of the server runs any more.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.drain()
	ctx, cancel := context.WithTimeout(ctx, defaultDeadline+unreadGrace)
	defer cancel()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.grpc.GracefulStop()
	}()
	s.awaitCalls(ctx, finished)
	s.grpc.Stop()
	<-finished
	s.publish.readers.Wait()
}

// awaitCalls waits until the server has finished, nothing but watches has been open for
// a while, or ctx ends.
func (s *Server) awaitCalls(ctx context.Context, finished <-chan struct{}) {
	tick := time.NewTicker(unreadGrace / 20)
	defer tick.Stop()
	for busy := time.Now(); time.Since(busy) < unreadGrace; {
		select {
		case <-finished:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.edge.answering.Load() > 0 {
				busy = time.Now()
			}
		}
	}
}
