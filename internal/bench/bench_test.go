package bench_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/bench"
	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// ephemeral gives a node a namespace without history.
func ephemeral(c *node.Config) {
	c.Namespaces = map[string]room.Policy{"eph": room.DefaultPolicy()}
	policy := c.Namespaces["eph"]
	policy.History.Size = 0
	c.Namespaces["eph"] = policy
}

func config(n *nodetest.Node, l bench.Load) bench.Config {
	l.Payload = 128
	return bench.Config{
		URLs: []string{"http://" + n.HTTP}, Load: l,
		Warmup: 50 * time.Millisecond, Duration: 300 * time.Millisecond, Patience: 2 * time.Minute,
	}
}

func run(t *testing.T, n *nodetest.Node, cfg bench.Config) (*bench.Report, error) {
	t.Helper()
	b, err := bench.New(cfg, roomcastv1.NewPublishServiceClient(n.Dial(t)), roomcastv1.NewPublishServiceClient(n.Dial(t)))
	if err != nil {
		t.Fatal(err)
	}
	return b.Run(t.Context())
}

// TestRealNode: every way to publish, to shared and personal rooms, stored and not,
// without an error, and with figures that fit together.
func TestRealNode(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, ephemeral)[0]
	tests := map[string]bench.Load{
		"unary, one room":      {Rooms: 1, Sockets: 20, InFlight: 8, RoomPrefix: "one-"},
		"unary, ephemeral":     {Rooms: 20, Sockets: 20, InFlight: 8, RoomPrefix: "eph:unary-"},
		"stream, stored":       {Rooms: 5, Sockets: 20, InFlight: 64, Mode: bench.Stream, RoomPrefix: "stream-"},
		"stream, ephemeral":    {Rooms: 5, Sockets: 20, InFlight: 64, Mode: bench.Stream, RoomPrefix: "eph:stream-"},
		"batch, overlapping":   {Rooms: 3, Sockets: 9, InFlight: 64, Batch: 16, Mode: bench.Batch, RoomPrefix: "batch-"},
		"with a rate":          {Rooms: 3, Sockets: 9, InFlight: 8, Rate: 100, RoomPrefix: "rate-"},
		"batches with a rate":  {Rooms: 3, Sockets: 9, InFlight: 8, Rate: 100, Mode: bench.Batch, RoomPrefix: "rated-"},
		"names to be escaped":  {Rooms: 2, Sockets: 2, InFlight: 8, RoomPrefix: "größe 1+1/"},
		"more sockets than do": {Rooms: 3, Sockets: 10, InFlight: 1, RoomPrefix: "uneven-"},
	}
	for name, load := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, err := run(t, n, config(n, load))
			if err != nil {
				t.Fatal(err)
			}
			if report.Errors.Any() {
				t.Errorf("errors: %+v", report.Errors)
			}
			if report.Traffic.Published == 0 || report.Last.Count == 0 || report.Delivery.Count < report.Last.Count {
				t.Errorf("traffic %+v, %d deliveries and %d last ones measured", report.Traffic, report.Delivery.Count, report.Last.Count)
			}
			if load.Sockets%load.Rooms == 0 && report.Delivery.Count != report.Last.Count*uint64(load.Sockets/load.Rooms) {
				t.Errorf("%d deliveries measured of %d messages to %d sockets each", report.Delivery.Count, report.Last.Count, load.Sockets/load.Rooms)
			}
		})
	}
}

// TestThroughTLS: a proxy ends TLS; the sockets are read by a goroutine each, as on
// systems without epoll.
func TestThroughTLS(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	target, err := url.Parse("http://" + n.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	proxy.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.StartTLS()
	defer proxy.Close()
	roots := x509.NewCertPool()
	roots.AddCert(proxy.Certificate())
	cfg := config(n, bench.Load{Rooms: 2, Sockets: 10, Stalled: 4, InFlight: 8, Mode: bench.Stream, RoomPrefix: "tls-"})
	cfg.Stall = 100 * time.Millisecond
	cfg.URLs = []string{"wss" + strings.TrimPrefix(proxy.URL, "https")}
	cfg.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	report, err := run(t, n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Errors.Any() || report.Delivery.Count == 0 || report.Delivery.Count != 5*report.Last.Count {
		t.Errorf("%+v, %d deliveries measured of %d messages", report.Errors, report.Delivery.Count, report.Last.Count)
	}
	cfg.TLS = nil
	if _, err := run(t, n, cfg); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v with the system's roots, want a refused certificate", err)
	}
}

// TestLostIsCounted: a bus that loses messages of a room without history is found out.
func TestLostIsCounted(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, nats.URL, "rc.eph", 5)
	n := nodetest.Start(t, 1, ephemeral, nodetest.OnNATS(proxy.URL))[0]
	var report *bench.Report
	// The patience always passes; with too little, what is late is lost, too.
	for _, patience := range []time.Duration{time.Second, 10 * time.Second, 90 * time.Second} {
		before := proxy.Dropped.Load()
		cfg := config(n, bench.Load{Rooms: 1, Sockets: 3, InFlight: 64, Rate: 100, Mode: bench.Stream, RoomPrefix: "eph:lost-"})
		cfg.Duration, cfg.Patience = time.Second, patience
		var err error
		if report, err = run(t, n, cfg); err != nil {
			t.Fatal(err)
		}
		dropped := proxy.Dropped.Load() - before
		e := report.Errors
		if dropped > 0 && e.Lost == 3*dropped && e.Unfinished == dropped && e.Duplicated+e.Reordered+e.Closed == 0 {
			break
		}
		if t.Logf("with %s patience got %+v, want 3 sockets to have lost %d messages", patience, e, dropped); patience > time.Minute {
			t.Fail()
		}
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "errors      lost ") {
		t.Errorf("the text hides it: %v\n%s", err, text.String())
	}
}

// TestRefusals: what cannot be measured fails with the reason, and does not hang.
func TestRefusals(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	good := bench.Load{Rooms: 1, Sockets: 2, InFlight: 2}
	now := time.Now()
	roomless, err := auth.Mint([]byte(nodetest.Key), auth.Claims{User: "ann", IssuedAt: now, Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*bench.Config)
		want   string
	}{
		"a token":      {func(c *bench.Config) { c.Token = "nonsense" }, "TOKEN_INVALID"},
		"a room":       {func(c *bench.Config) { c.Token = roomless }, "FORBIDDEN"},
		"a path":       {func(c *bench.Config) { c.URLs[0] += "/nothing" }, "404"},
		"a URL":        {func(c *bench.Config) { c.URLs[0] = "localhost:8080" }, "not of the form"},
		"nobody there": {func(c *bench.Config) { c.URLs[0] = "http://127.0.0.1:1" }, "refused"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(n, good)
			cfg.Load.RoomPrefix = "r-"
			test.change(&cfg)
			if _, err := run(t, n, cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestRefusedPublish: messages that a node does not take are counted.
func TestRefusedPublish(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1, func(c *node.Config) {
		policy := room.DefaultPolicy()
		policy.MaxPayload = 100
		c.Namespaces = map[string]room.Policy{"small": policy}
	})[0]
	for _, mode := range []bench.Mode{bench.Unary, bench.Batch, bench.Stream} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			report, err := run(t, n, config(n, bench.Load{Rooms: 1, Sockets: 2, InFlight: 4, Rate: 50, Mode: mode, RoomPrefix: "small:"}))
			if err != nil {
				t.Fatal(err)
			}
			if e := report.Errors; e.Refused == 0 || e.Lost+e.Unfinished != 0 || !strings.Contains(strings.Join(e.Examples, " "), "payload") {
				t.Errorf("got %+v, want refused messages and the reason", e)
			}
		})
	}
}

// TestNodeGoesAway: a node that drains in the middle closes the sockets, which is told.
func TestNodeGoesAway(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	cfg := config(n, bench.Load{Rooms: 1, Sockets: 5, InFlight: 4, Rate: 100, RoomPrefix: "away-"})
	cfg.Warmup, cfg.Patience = time.Minute, time.Second
	var once atomic.Bool
	stopped := make(chan error, 1)
	cfg.Progress = func(s bench.Status) {
		if s.Phase == bench.Warming && once.CompareAndSwap(false, true) {
			go func() { stopped <- n.Stop() }()
		}
	}
	_, err := run(t, n, cfg)
	if err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("got %v, want to give up", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestInterrupted: the end of the context ends everything.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(n, bench.Load{Rooms: 1, Sockets: 5, Stalled: 2, InFlight: 4, Mode: bench.Stream, RoomPrefix: "int-"})
	cfg.Duration, cfg.Stall = time.Minute, 9*time.Second
	cfg.Progress = func(s bench.Status) {
		if s.Phase == bench.Measuring {
			cancel()
		}
	}
	b, err := bench.New(cfg, roomcastv1.NewPublishServiceClient(n.Dial(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Run(ctx); err == nil {
		t.Error("no error after an interrupt")
	}
}

// TestProbe: the probe is measured alone and beside, and what processes used is told
// where the system tells it.
func TestProbe(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	cfg := config(n, bench.Load{Rooms: 1, Sockets: 5, InFlight: 4, RoomPrefix: "probe-"})
	cfg.ProbeRate = 200
	if runtime.GOOS == "linux" {
		cfg.ServerPIDs = []int{os.Getpid()}
	}
	report, err := run(t, n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := report.Probe
	if report.Errors.Any() || p == nil || p.Alone.Count == 0 || p.Beside.Count == 0 || p.Ratio <= 0 {
		t.Errorf("errors %+v, probe %+v", report.Errors, p)
	}
	if runtime.GOOS == "linux" && (len(report.Usage.Processes) != 1 || report.Usage.Processes[0].RSS < 1<<20) {
		t.Errorf("got %+v, want what this process uses", report.Usage)
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "every socket got every message once, in order") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestStalled: sockets that read nothing for a while get everything afterwards, and what
// the report says of them fits together. Large messages fill what the kernels hold.
func TestStalled(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	cfg := config(n, bench.Load{Rooms: 2, Sockets: 4, Stalled: 6, InFlight: 8, Rate: 500, RoomPrefix: "stall-"})
	cfg.Load.Payload, cfg.Stall, cfg.AdminAddr = 32<<10, 200*time.Millisecond, n.Admin
	report, err := run(t, n, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := report.Stalled
	if report.Errors.Any() || s == nil {
		t.Fatalf("errors %+v, stalled %+v", report.Errors, s)
	}
	if s.Sockets != 6 || s.Seconds < 0.2 || s.LeastBehind > s.MostBehind || s.MostBehind == 0 || s.CaughtUp <= 0 {
		t.Errorf("got %+v", s)
	}
	for _, m := range []bench.Memory{s.Before, s.During, s.After} {
		if m.Live == 0 || m.InUse < m.Live {
			t.Errorf("got %+v, want the heap", m)
		}
	}
	if report.Delivery.Count != 2*report.Last.Count || report.Connect.Sockets != 10 {
		t.Errorf("%d deliveries measured of %d messages, %d sockets", report.Delivery.Count, report.Last.Count, report.Connect.Sockets)
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "stalled     6 sockets for ") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

func TestNoSuchProcess(t *testing.T) {
	t.Parallel()
	cfg := bench.Config{
		URLs: []string{"http://localhost"}, Duration: time.Second, ServerPIDs: []int{1 << 30},
		Load: bench.Load{Rooms: 1, Sockets: 1, InFlight: 1, Payload: 128},
	}
	if _, err := bench.New(cfg, nil, nil); err == nil {
		t.Error("no error for a process that is not there")
	}
}
