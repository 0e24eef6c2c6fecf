package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roomcast/roomcast/internal/api"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/connections"
	"github.com/roomcast/roomcast/internal/embednats"
	"github.com/roomcast/roomcast/internal/gateway"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// stopTimeout bounds what comes after the sockets have gone: open gRPC calls.
const stopTimeout = 5 * time.Second

// Node is one node, made by [New] and run once by [Node.Run].
type Node struct {
	cfg      Config
	log      *slog.Logger
	policies *room.Policies
	verifier *auth.Verifier
	metrics  *metrics.Metrics
	ready    *readiness
	admin    *admin
	httpTLS  *tls.Config
	grpcTLS  *tls.Config

	serving atomic.Pointer[gateway.Gateway] // nil until there is one
	drains  chan time.Duration              // how long a drain that is asked for may take
	drained chan struct{}                   // closed when no drain can be asked for any more
}

// New checks the configuration without touching network or disk, but for the key
// files. Errors name the setting and the mend.
func New(cfg Config, logger *slog.Logger) (*Node, error) {
	if cfg.Node == "" {
		cfg.Node = defaultName()
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, metrics: metrics.New(), drains: make(chan time.Duration), drained: make(chan struct{})}
	n.log = logger.With("node", cfg.Node)
	n.ready = newReadiness(n.log)
	var err error
	if n.policies, err = room.NewPolicies(cfg.Namespaces); err != nil {
		return nil, err
	}
	if n.verifier, err = auth.NewVerifier(cfg.Auth); err != nil {
		return nil, err
	}
	if n.httpTLS, err = cfg.serverTLS(); err != nil {
		return nil, err
	}
	if n.grpcTLS, err = cfg.controlTLS(); err != nil {
		return nil, err
	}
	if n.admin, err = newAdmin(&cfg, n.metrics, n.ready); err != nil {
		return nil, err
	}
	return n, nil
}

// defaultName is the host's name with a random suffix: unique, and readable.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil || room.CheckUser(host, "") != nil {
		host = "node"
	}
	return host + "-" + randomSuffix()
}

// parts are what a running node consists of, in the order they are started.
type parts struct {
	embedded *embednats.Server // nil with an external NATS
	bus      *bus.Bus
	hub      *hub.Hub
	presence *presence.Presence
	gateway  *gateway.Gateway
	api      *api.Server
	http     *http.Server
}

// Run starts the node and serves until ctx ends or Drain is called, then drains and
// returns nil. An error before OnReady is one of configuration or environment; one
// after it is a failure that ended the node, such as NATS closing the connection for
// good.
func (n *Node) Run(ctx context.Context) error {
	lis, err := n.cfg.listen()
	if err != nil {
		return err
	}
	defer lis.close()
	_, control, admin := shares()
	lis.grpc, lis.admin = bounded(lis.grpc, "control", control, n.log), bounded(lis.admin, "admin", admin, n.log)
	var servers sync.WaitGroup
	defer servers.Wait()
	adminServer := newHTTPServer(n.admin.handler())
	adminServer.ErrorLog = slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)
	defer func() { _ = adminServer.Close() }()
	failed := make(chan error, 3)
	servers.Go(func() { failed <- fmt.Errorf("admin listener: %w", adminServer.Serve(lis.admin)) })

	p, err := n.start(ctx)
	defer p.stop()
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it was ready
		}
		return err
	}
	servers.Go(func() {
		if err := p.api.Serve(lis.grpc); err != nil {
			failed <- fmt.Errorf("control listener: %w", err)
		}
	})
	servers.Go(func() {
		failed <- fmt.Errorf("public listener: %w", p.gateway.Serve(lis.http, n.httpTLS, p.http))
	})
	watchCtx, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	n.ready.changed = func(ready bool) { p.api.SetServing(ready) }
	servers.Go(func() { n.ready.watch(watchCtx, p.reasons) })
	servers.Go(func() { afterStorms(watchCtx, p.gateway.Turnover, debug.FreeOSMemory) })
	window := time.Duration(0) // without a bus there is nothing to wait for
	n.serving.Store(p.gateway)
	if err = n.announce(lis); err == nil {
		select {
		case <-ctx.Done():
			window = n.cfg.DrainWindow
		case window = <-n.drains:
		case err = <-failed:
		case err = <-p.bus.Fatal():
		}
	}
	n.drain(ctx, p, window)
	return err
}

// start makes the parts. What it has made is in p even when it fails.
func (n *Node) start(ctx context.Context) (p *parts, err error) {
	p = &parts{}
	if n.cfg.NATS.URL == "" {
		p.embedded, err = embednats.Start(ctx, embednats.Config{
			Dir: n.cfg.DataDir, MaxStore: n.maxStore(), SyncAlways: n.cfg.NATS.SyncAlways, Logger: n.log.With("part", "nats"),
		})
		if err != nil {
			return p, err
		}
	}
	if p.bus, err = bus.Open(ctx, n.busConfig(p.embedded)); err != nil {
		return p, err
	}
	p.hub = hub.New(hub.Config{Policies: n.policies, Source: source{p.bus}, Log: p.bus, Metrics: n.metrics, Logger: n.log})
	p.presence = n.newPresence(p.bus, p.hub)
	if p.gateway, err = gateway.New(n.gatewayConfig(p.bus, p.hub, p.presence)); err != nil {
		return p, err
	}
	if err = p.presence.Answer(p.gateway); err != nil {
		return p, err
	}
	conns, err := connections.New(ctx, p.bus, p.gateway, n.log)
	if err != nil {
		return p, err
	}
	if err = p.bus.Answer(kindDrain, n.answerDrain); err != nil {
		return p, err
	}
	p.http = newHTTPServer(p.gateway.Handler())
	p.http.ErrorLog = slog.NewLogLogger(n.log.Handler(), slog.LevelDebug)
	p.api, err = api.NewServer(api.Config{
		Policies:    n.policies,
		Publisher:   publisher{p.bus},
		Log:         p.bus,
		Rooms:       p.hub,
		Presence:    p.presence,
		Connections: conns,
		Nodes:       drainer{p.bus},
		Verifier:    n.verifier,
		Anonymous:   n.anonymousRPC(),
		Reflection:  n.cfg.Reflection,
		TLS:         n.grpcTLS,
		Metrics:     n.metrics,
		Logger:      n.log,
	})
	return p, err
}

// reasons asks the bus whether this node can serve, and tells the sockets if it has not
// for a while.
func (p *parts) reasons(ctx context.Context) []string {
	why := p.bus.Ready(ctx)
	if p.bus.Degraded() {
		p.gateway.SetDegraded(room.ReasonBusUnavailable)
	} else {
		p.gateway.SetDegraded("")
	}
	return why
}

// stop ends what start has made, last first.
func (p *parts) stop() {
	if p.api != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		p.api.Stop(ctx)
		cancel()
	}
	if p.http != nil {
		_ = p.http.Close() // sockets have left it already
	}
	if p.gateway != nil {
		p.gateway.Drain(context.Background(), 0)
	}
	if p.presence != nil {
		p.presence.Close()
	}
	if p.hub != nil {
		p.hub.Close()
	}
	if p.bus != nil {
		p.bus.Close()
	}
	if p.embedded != nil {
		p.embedded.Shutdown()
	}
}

// announce tells that the node is ready.
func (n *Node) announce(lis listeners) error {
	addrs := Addrs{
		HTTP: lis.http.Addr().String(), GRPC: lis.grpc.Addr().String(), Admin: lis.admin.Addr().String(), Node: n.cfg.Node,
	}
	limit, _ := descriptorLimit()
	n.log.Info("ready", "http", addrs.HTTP, "grpc", addrs.GRPC, "admin", addrs.Admin,
		"nats", n.natsKind(), "open_files", limit, "version", n.cfg.Version)
	if n.cfg.ReadyFile != "" {
		if err := writeReadyFile(n.cfg.ReadyFile, addrs); err != nil {
			return err
		}
	}
	n.ready.fix("")
	if n.cfg.OnReady != nil {
		n.cfg.OnReady(addrs)
	}
	return nil
}

func (n *Node) natsKind() string {
	if n.cfg.NATS.URL == "" {
		return "embedded"
	}
	return "external"
}

// randomSuffix is six letters and digits.
func randomSuffix() string { return strings.ToLower(rand.Text()[:6]) }
