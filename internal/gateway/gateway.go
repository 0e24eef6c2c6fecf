package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// Sequence publishes for one socket, in its order; see the bus for what it promises.
type Sequence interface {
	Publish(ctx context.Context, p *room.Publication, done func(room.Ack, error))
}

// Verifier checks tokens, and refuses those that are revoked; see [auth.Verifier].
type Verifier interface {
	Verify(token string, now time.Time) (*auth.Caller, error)
	Revoke(list []room.Revocation, now time.Time)
	Revoked(c *auth.Caller) bool
}

// Config is what a gateway needs.
type Config struct {
	Node, Version  string
	Hub            *hub.Hub
	Presence       *presence.Presence
	NewSequence    func() Sequence
	Verifier       Verifier
	Anonymous      *auth.Caller // who connects without a token; nil = nobody may
	Policies       *room.Policies
	AllowedOrigins []string // besides the request's own host
	TrustedProxies []string // addresses or prefixes whose X-Forwarded-For counts
	TokenInQuery   bool
	PingInterval   time.Duration // 0 = 25 s
	MaxConnections int           // of the public listener, requests that are not for a socket too; 0 = no bound
	Ready          func() bool   // for /health; draining is known here
	Metrics        *metrics.Metrics
	Logger         *slog.Logger
}

// Gateway serves the public listener. Safe for concurrent use.
type Gateway struct {
	cfg      Config    // static
	began    time.Time // a moment before; static
	log      *slog.Logger
	origins  originPolicy
	proxies  proxyList
	drain    drain
	degraded degraded
	flushers []*flusher
	next     atomic.Uint32 // flusher
	turnover atomic.Uint64 // sockets opened and closed
	pollers  pollers
	workers  workers
	writers  sync.WaitGroup // the flushers
	stopped  sync.Once

	roster  roster
	revoked tally
	wg      sync.WaitGroup // sessions' goroutines; added to under the roster's lock and not once drain.refuses
}

const (
	defaultPing = 25 * time.Second
	bodyTimeout = time.Second // for a body that nobody asked for
)

// New checks the configuration. Errors name the setting.
func New(cfg Config) (*Gateway, error) {
	origins, err := parseOrigins(cfg.AllowedOrigins)
	if err != nil {
		return nil, err
	}
	proxies, err := parseProxies(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	if cfg.PingInterval == 0 {
		cfg.PingInterval = defaultPing
	}
	g := &Gateway{
		cfg:     cfg,
		began:   time.Now().Add(-time.Second), // so that no time is never
		log:     cfg.Logger.With("part", "gateway"),
		origins: origins,
		proxies: proxies,
		roster:  newRoster(),
		drain:   newDrain(),
	}
	for range runtime.GOMAXPROCS(0) {
		f := newFlusher(g)
		g.flushers = append(g.flushers, f)
		g.writers.Go(f.run)
	}
	return g, nil
}

// nextFlusher returns a flusher for a new socket.
func (g *Gateway) nextFlusher() *flusher {
	return g.flushers[int(g.next.Add(1))%len(g.flushers)]
}

// stop ends the flushers, once no session is left.
func (g *Gateway) stop() {
	g.stopped.Do(func() {
		for _, f := range g.flushers {
			close(f.stop)
		}
	})
	g.writers.Wait()
	g.pollers.stop()
	g.workers.wg.Wait()
}

// Handler serves the public listener's paths.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/ws", g.serveSocket)
	mux.HandleFunc("GET /health", g.serveHealth)
	return bounded(mux)
}

// bounded answers requests in bounded time. It does not wait for a body, since no path
// here takes one: the HTTP server would read it before the answer, for as long as the
// client likes. Nor does it wait longer than for a socket until the answer is taken.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(overTLS{}) != nil {
			r.TLS = &tls.ConnectionState{} // only asked whether it is there
		}
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // a socket's is taken off again
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// serveHealth answers load balancers: 503 while this node should get no new sockets.
func (g *Gateway) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _, draining := g.drain.current()
	switch {
	case draining:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("draining\n"))
	case !g.cfg.Ready():
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("not ready\n"))
	default:
		_, _ = w.Write([]byte("ok\n"))
	}
}

// Connections returns how many sockets are open.
func (g *Gateway) Connections() int {
	g.roster.mu.Lock()
	defer g.roster.mu.Unlock()
	return len(g.roster.byID)
}

// Turnover returns how many sockets were opened and closed until now.
func (g *Gateway) Turnover() uint64 { return g.turnover.Load() }

// open makes a session of a connection whose request is granted, for the caller to
// begin. If draining has begun meanwhile the peer is sent elsewhere, and there is none.
func (g *Gateway) open(conn net.Conn, a *admission) *session {
	s := newSession(g, conn, a)
	s.out.push(a.answer) // written with the first frames
	if g.add(s) {
		return s
	}
	_ = conn.SetWriteDeadline(time.Now().Add(closeGrace))
	_, _ = conn.Write(append(a.answer, closeNode.frame()...))
	_ = conn.Close()
	return nil
}

// add registers a session and reports false if the gateway takes no more.
func (g *Gateway) add(s *session) bool {
	g.roster.mu.Lock()
	defer g.roster.mu.Unlock()
	if g.drain.refuses.Load() {
		return false
	}
	s.open()
	g.roster.byID[s.id] = s
	g.wg.Add(1)
	g.turnover.Add(1)
	g.cfg.Metrics.Connections.Inc()
	return true
}

func (g *Gateway) remove(s *session) {
	g.roster.remove(s)
	g.turnover.Add(1)
	g.cfg.Metrics.Connections.Dec()
	g.wg.Done()
}
