package node_test

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// TestReadiness takes the bus away and brings it back: every probe that asks for
// readiness follows, /healthz does not.
func TestReadiness(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	n := nodetest.Start(t, 1, nodetest.OnNATS(nats.URL))[0]
	health := healthpb.NewHealthClient(n.Dial(t))
	serving := func() bool {
		resp, err := health.Check(bounded(t), &healthpb.HealthCheckRequest{})
		return err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_SERVING
	}
	follow := func(what string, ready bool) {
		t.Helper()
		want := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[ready]
		nodetest.Eventually(t, patience, what, func() bool {
			admin, _ := get(t, "http://"+n.Admin+"/readyz", "")
			public, _ := get(t, "http://"+n.HTTP+"/health", "")
			return admin == want && public == want && serving() == ready
		})
		if status, body := get(t, "http://"+n.Admin+"/healthz", ""); status != http.StatusOK || body != "ok\n" {
			t.Errorf("/healthz: %d %q", status, body)
		}
	}
	follow("the node serves", true)
	nats.Stop()
	follow("the node is not ready", false)
	nodetest.Eventually(t, patience, "/readyz says why", func() bool { // while NATS stops it may be that a log does not answer
		_, body := get(t, "http://"+n.Admin+"/readyz", "")
		return strings.HasPrefix(body, "nats is not connected")
	})
	nats.Start()
	follow("the node is ready again", true)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	s := dial(t, n, "")
	s.subscribe("hello", "")
	publish(t, n, text("hello", "x"))
	s.messages(1)
	got := map[string]float64{}
	want := map[string]float64{
		"roomcast_connections":                       1,
		"roomcast_rooms":                             1,
		`roomcast_published_total{outcome="stored"}`: 1,
		"roomcast_received_total":                    1,
		"roomcast_deliveries_total":                  1,
		"roomcast_bus_connected":                     1,
		"roomcast_holes_total":                       0,
	}
	nodetest.Eventually(t, patience, "all is counted", func() bool { // what was delivered, after that
		for name := range want {
			got[name] = metric(t, n, name)
		}
		return got["roomcast_deliveries_total"] > 0
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// The private pages of the admin listener.
func TestAdminToken(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	public := func(c *node.Config) { c.Dev, c.AdminAddr = false, ":0" }
	withToken := func(c *node.Config) { c.AdminTokenFile = file }
	tests := map[string]struct {
		config []nodetest.Config
		token  string
		want   int
	}{
		"loopback":                           {nil, "", http.StatusOK},
		"loopback with a token, given":       {[]nodetest.Config{withToken}, secret, http.StatusOK},
		"loopback with a token, not given":   {[]nodetest.Config{withToken}, "", http.StatusUnauthorized},
		"off loopback without a token":       {[]nodetest.Config{public}, "", http.StatusForbidden},
		"off loopback, token given":          {[]nodetest.Config{public, withToken}, secret, http.StatusOK},
		"off loopback, wrong token":          {[]nodetest.Config{public, withToken}, secret + "0", http.StatusUnauthorized},
		"off loopback, token without a file": {[]nodetest.Config{public}, secret, http.StatusForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := nodetest.Start(t, 1, test.config...)[0]
			_, port, err := net.SplitHostPort(n.Admin)
			if err != nil {
				t.Fatal(err)
			}
			admin := "http://127.0.0.1:" + port
			if got, body := get(t, admin+"/debug/pprof/cmdline", test.token); got != test.want {
				t.Errorf("/debug/pprof/cmdline: %d %q, want %d", got, body, test.want)
			}
			for _, open := range []string{"/metrics", "/healthz", "/readyz"} {
				if got, body := get(t, admin+open, ""); got != http.StatusOK {
					t.Errorf("%s: %d %q, want 200", open, got, body)
				}
			}
		})
	}
}

func TestShortAdminTokenIsRefused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := node.New(nodetest.NewConfig(t, 1, func(c *node.Config) { c.AdminTokenFile = file }), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "--admin-token-file") {
		t.Errorf("got %v, want --admin-token-file named", err)
	}
}
