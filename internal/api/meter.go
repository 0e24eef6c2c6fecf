package api

import (
	"time"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// meter counts what this edge answers. It keeps the counters of good outcomes, which
// every message needs.
type meter struct {
	metrics   *metrics.Metrics
	stored    counter
	ephemeral counter
	duplicate counter
}

// counter is what meter needs of a collector.
type counter interface{ Inc() }

func newMeter(m *metrics.Metrics) *meter {
	if m == nil {
		m = metrics.New() // nobody reads it
	}
	return &meter{
		metrics:   m,
		stored:    m.Published.WithLabelValues(metrics.OutcomeStored),
		ephemeral: m.Published.WithLabelValues(metrics.OutcomeEphemeral),
		duplicate: m.Published.WithLabelValues(metrics.OutcomeDuplicate),
	}
}

// published counts the answer to one message, be it of a call, a batch or a stream.
func (m *meter) published(begun time.Time, ack room.Ack, err error) {
	m.metrics.PublishSeconds.Observe(time.Since(begun).Seconds())
	switch {
	case err != nil:
		m.metrics.Published.WithLabelValues(string(classify(err).Reason)).Inc()
	case ack.Duplicate:
		m.duplicate.Inc()
	case ack.Stored:
		m.stored.Inc()
	default:
		m.ephemeral.Inc()
	}
}

// refused counts a call that ended in an error. What became of publications is
// counted apart, see published.
func (m *meter) refused(err error) {
	if foreignStatus(err) == nil {
		m.metrics.Rejects.WithLabelValues(string(classify(err).Reason)).Inc()
	}
}
