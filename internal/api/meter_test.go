package api

import (
	"net/http/httptest"
	"strings"
	"testing"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

func TestMeter(t *testing.T) {
	t.Parallel()
	collectors := metrics.New()
	ts := start(t, func(cfg *Config, r *recorder) {
		cfg.Metrics = collectors
		r.answer = func(p *room.Publication) (room.Ack, error) {
			return room.Ack{ID: "x", Stored: p.Room != "live:1", Duplicate: p.MessageID != ""}, nil
		}
	})
	client := roomcastv1.NewPublishServiceClient(ts.conn)
	again := text("a", "x")
	again.MessageId = "m"
	batch := &roomcastv1.PublishBatchRequest{Messages: []*roomcastv1.PublishRequest{
		text("a", "x"), text("b", "x"), text("live:1", "x"), again, text("", "x"),
	}}
	if _, err := client.PublishBatch(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Publish(t.Context(), text("", "x")); err == nil {
		t.Fatal("publish: got OK, want it refused")
	}
	page := httptest.NewRecorder()
	collectors.Handler().ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	for _, line := range []string{
		`roomcast_published_total{outcome="stored"} 2`,
		`roomcast_published_total{outcome="ephemeral"} 1`,
		`roomcast_published_total{outcome="duplicate"} 1`,
		`roomcast_published_total{outcome="INVALID_ROOM"} 2`,
		`roomcast_rejects_total{reason="INVALID_ROOM"} 1`,
		`roomcast_publish_seconds_count 6`,
	} {
		if !strings.Contains(page.Body.String(), line+"\n") {
			t.Errorf("metrics: no line %q", line)
		}
	}
}
