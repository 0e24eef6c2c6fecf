package metrics

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/room"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden holds names, types, labels and help texts: dashboards and alerts of
// users depend on them.
func TestGolden(t *testing.T) {
	t.Parallel()
	m := New()
	touch(m)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), namespace+"_") {
			continue
		}
		var labels []string
		for _, pair := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		fmt.Fprintf(&b, "%s{%s} %s\n    %s\n", f.GetName(), strings.Join(labels, ","),
			strings.ToLower(f.GetType().String()), f.GetHelp())
	}
	path := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("metrics changed (-want +got); if on purpose, run with -update:\n%s", diff)
	}
}

// touch gives every vector a child, without which it is not gathered.
func touch(m *Metrics) {
	m.Closes.WithLabelValues("1000")
	m.Rejects.WithLabelValues(string(room.ReasonTooFast))
}

// TestEveryFieldIsRegistered: a collector that someone adds must be served.
func TestEveryFieldIsRegistered(t *testing.T) {
	t.Parallel()
	m := New()
	own := m.own()
	v := reflect.ValueOf(*m)
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		c, ok := reflect.TypeAssert[prometheus.Collector](v.Field(i))
		if !ok || !slices.Contains(own, c) {
			t.Errorf("field %s is not among own()", v.Type().Field(i).Name)
		}
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	m := New()
	touch(m)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	m := New()
	m.Published.WithLabelValues(OutcomeStored).Inc()
	m.PublishSeconds.Observe(.002)
	tests := map[string]struct{ accept, contentType, body string }{
		"text":        {"", "text/plain", "roomcast_published_total{outcome=\"stored\"} 1\n"},
		"classic":     {"", "text/plain", "roomcast_publish_seconds_bucket{le=\"0.0025\"} 1\n"},
		"zero":        {"", "text/plain", "roomcast_gaps_total{reason=\"RESET\"} 0\n"},
		"runtime":     {"", "text/plain", "go_goroutines "},
		"build":       {"", "text/plain", "go_build_info{"},
		"openmetrics": {"application/openmetrics-text;version=1.0.0", "application/openmetrics-text", "# EOF\n"},
		"protobuf": {
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
			"application/vnd.google.protobuf", "roomcast_publish_seconds",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
			r.Header.Set("Accept", tc.accept)
			w := httptest.NewRecorder()
			m.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Fatalf("got status %d: %s", w.Code, w.Body)
			}
			if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, tc.contentType) {
				t.Errorf("got content type %q, want %q", got, tc.contentType)
			}
			if !strings.Contains(w.Body.String(), tc.body) {
				t.Errorf("the body has no %q", tc.body)
			}
		})
	}
}

// TestTwoNodes: two nodes in one process (tests) do not share a registry.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	a, b := New(), New()
	a.Connections.Inc()
	if got := testutil.ToFloat64(b.Connections); got != 0 {
		t.Errorf("got %v connections on the other node, want 0", got)
	}
}
