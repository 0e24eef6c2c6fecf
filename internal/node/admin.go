package node

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/metrics"
)

// admin is the admin listener's handler.
type admin struct {
	metrics *metrics.Metrics
	ready   *readiness
	private bool   // the private pages need the token
	token   string // empty = they are closed
}

func newAdmin(c *Config, m *metrics.Metrics, ready *readiness) (*admin, error) {
	loopback, err := isLoopback(c.AdminAddr)
	if err != nil {
		return nil, fmt.Errorf("--admin-addr: %w", err)
	}
	a := &admin{metrics: m, ready: ready, private: !loopback}
	if c.AdminTokenFile != "" {
		data, err := os.ReadFile(c.AdminTokenFile)
		if err != nil {
			return nil, fmt.Errorf("--admin-token-file: %w", err)
		}
		a.token = strings.TrimSpace(string(data))
		if len(a.token) < 16 {
			return nil, fmt.Errorf("--admin-token-file: the token has %d bytes; it must have at least 16", len(a.token))
		}
		a.private = true
	}
	return a, nil
}

func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("/debug/pprof/", a.guard(pprof.Index))
	mux.Handle("GET /debug/pprof/cmdline", a.guard(pprof.Cmdline))
	mux.Handle("GET /debug/pprof/profile", a.guard(pprof.Profile))
	mux.Handle("GET /debug/pprof/symbol", a.guard(pprof.Symbol))
	mux.Handle("GET /debug/pprof/trace", a.guard(pprof.Trace))
	return mux
}

// serveReady answers 200, or 503 with one reason a line.
func (a *admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	reasons := a.ready.reasons()
	if len(reasons) == 0 {
		writeText(w, http.StatusOK, "ready\n")
		return
	}
	writeText(w, http.StatusServiceUnavailable, strings.Join(reasons, "\n")+"\n")
}

// guard keeps a page to those with the token, off loopback.
func (a *admin) guard(page http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case !a.private:
		case a.token == "":
			http.Error(w, "off loopback this page needs --admin-token-file", http.StatusForbidden)
			return
		case !ok || subtle.ConstantTimeCompare([]byte(given), []byte(a.token)) != 1:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the admin token is missing or wrong", http.StatusUnauthorized)
			return
		}
		page(w, r)
	})
}

func writeText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the asker may have gone
}

// newHTTPServer is an HTTP server that slow or huge requests cannot hold.
func newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}
