package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/roomcast/roomcast/internal/room"
)

const namespace = "roomcast"

// The outcomes of [Metrics.Published] besides the reasons of errors.
const (
	OutcomeStored    = "stored"    // the log has it
	OutcomeEphemeral = "ephemeral" // given to the bus, which keeps nothing
	OutcomeDuplicate = "duplicate" // the room had this message id already
)

// Metrics is every collector of one node. Hot paths keep the children of a vector
// (WithLabelValues) instead of looking them up for each message.
type Metrics struct {
	// Sockets and rooms of this node.

	Connections    prometheus.Gauge       // open sockets, authenticated or not
	Rooms          prometheus.Gauge       // rooms that have a socket here
	FramesReceived prometheus.Counter     // frames read from sockets, control frames included
	Closes         *prometheus.CounterVec // sockets closed, by close code in digits: code
	Rejects        *prometheus.CounterVec // requests and upgrades refused, by [room.Reason]: reason
	Gaps           *prometheus.CounterVec // gap frames sent, by [room.GapReason]: reason

	// Publishing.

	Published      *prometheus.CounterVec // calls answered, by an Outcome constant or a [room.Reason]: outcome
	PublishSeconds prometheus.Histogram   // seconds from the call to its answer, failures included

	// The way of a message from the bus to the sockets.

	Received       prometheus.Counter // messages handed to the hub, in order and once
	Deliveries     prometheus.Counter // message frames written, one for each socket
	Holes          prometheus.Counter // holes seen by the sequence check or the audit
	AuditedRooms   prometheus.Counter // rooms that the audit has compared with the log
	AuditRepairs   prometheus.Counter // holes that only the audit found
	FilledMessages prometheus.Counter // messages read from the log because republish lost them
	BusDuplicates  prometheus.Counter // messages that the bus brought twice
	BusDropped     prometheus.Counter // messages dropped because a channel was full; they are filled
	LogReads       prometheus.Counter // pages read from the log
	LogMessages    prometheus.Counter // messages in them

	// The connection to NATS.

	BusConnected  prometheus.Gauge   // 1 while connected, else 0
	BusReconnects prometheus.Counter // connections made again
	CanarySeconds prometheus.Gauge   // seconds that this node's newest canary took through the log and back
	BusInMessages prometheus.Counter // messages from NATS of any kind, control traffic included

	registry *prometheus.Registry
}

// New returns the collectors of a node in a registry of their own, together with
// those of the Go runtime, the process and the build.
func New() *Metrics {
	m := &Metrics{
		Connections:    gauge("connections", "Open sockets of this node."),
		Rooms:          gauge("rooms", "Rooms that have a socket on this node."),
		FramesReceived: counter("frames_received_total", "Frames read from sockets, control frames included."),
		Closes:         counters("closes_total", "Sockets closed, by close code.", "code"),
		Rejects:        counters("rejects_total", "Requests and upgrades refused, by reason.", "reason"),
		Gaps:           counters("gaps_total", "Gap frames sent, by reason.", "reason"),

		Published:      counters("published_total", "Publish calls answered, by outcome: stored, ephemeral, duplicate, or the reason of the error.", "outcome"),
		PublishSeconds: publishSeconds(),

		Received:       counter("received_total", "Messages that came from the bus and were handed on, in order and once."),
		Deliveries:     counter("deliveries_total", "Messages written to sockets, one for each socket."),
		Holes:          counter("holes_total", "Holes seen between the messages of a room."),
		AuditedRooms:   counter("audited_rooms_total", "Rooms that the audit has compared with the log, each time."),
		AuditRepairs:   counter("audit_repairs_total", "Holes that only the audit found: nothing came after them."),
		FilledMessages: counter("filled_messages_total", "Messages read from the log because republish lost them."),
		BusDuplicates:  counter("bus_duplicates_total", "Messages that the bus brought twice and that were left out."),
		BusDropped:     counter("bus_dropped_total", "Messages dropped because a channel was full; the log fills them in."),
		LogReads:       counter("log_reads_total", "Pages read from the log."),
		LogMessages:    counter("log_read_messages_total", "Messages in the pages read from the log."),

		BusConnected:  gauge("bus_connected", "1 while this node is connected to NATS, else 0."),
		BusReconnects: counter("bus_reconnects_total", "Connections to NATS that were made again."),
		CanarySeconds: gauge("canary_seconds", "Seconds that the newest canary took through the log and back; 0 on an embedded NATS."),
		BusInMessages: counter("bus_in_messages_total", "Messages from NATS of any kind, control traffic included."),

		registry: prometheus.NewRegistry(),
	}
	m.registry.MustRegister(m.own()...)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	m.zero()
	return m
}

// Handler serves the metrics: text, OpenMetrics or protobuf (native histograms), as
// the scraper asks.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: 4, // a scrape locks every collector for a moment
	})
}

// own lists the collectors that are Roomcast's.
func (m *Metrics) own() []prometheus.Collector {
	return []prometheus.Collector{
		m.Connections, m.Rooms, m.FramesReceived, m.Closes, m.Rejects, m.Gaps,
		m.Published, m.PublishSeconds,
		m.Received, m.Deliveries, m.Holes, m.AuditedRooms, m.AuditRepairs, m.FilledMessages, m.BusDuplicates, m.BusDropped,
		m.LogReads, m.LogMessages,
		m.BusConnected, m.BusReconnects, m.CanarySeconds, m.BusInMessages,
	}
}

// zero makes the children that every node has sooner or later, so that a rate over
// their first event is not lost.
func (m *Metrics) zero() {
	for _, outcome := range []string{OutcomeStored, OutcomeEphemeral, OutcomeDuplicate} {
		m.Published.WithLabelValues(outcome)
	}
	for _, reason := range []room.GapReason{room.Truncated, room.Reset, room.Overflow} {
		m.Gaps.WithLabelValues(string(reason))
	}
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(
		prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
}

// publishSeconds is a native histogram for scrapers that know them, with classic
// buckets for those that do not. An embedded log answers in well under a
// millisecond, a failover takes seconds.
func publishSeconds() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace,
		Name:      "publish_seconds",
		Help:      "Seconds from a publish call to its answer, failures included.",
		Buckets: []float64{
			.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05,
			.1, .25, .5, 1, 2.5, 5, 10, 15,
		},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	})
}
