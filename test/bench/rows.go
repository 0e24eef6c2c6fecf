package main

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// row is one line of the table.
type row struct {
	name    string
	what    string
	nodes   int        // above 1 they share an external nats-server
	nats    bool       // so does a single one
	raw     bool       // the raw writer instead of nodes
	config  string     // configuration file of the nodes; empty = none
	first   [][]string // flags of runs to compare with, each right before and on nodes of its own
	flags   []string   // of roomcast bench
	idle    bool       // also measure the nodes without load
	tls     bool       // sockets speak TLS
	tokens  bool       // each socket has a token of its own
	against string     // the raw row that says what a call costs here; empty = none
	figures []figure

	servers int // nats-servers in a cluster, and replicas of the log; 0 = one

	// What is measured instead of a run of roomcast bench; nil = that.
	run func(ctx context.Context, w *workshop, r *row) (*measurement, error)
}

// external reports whether there is a nats-server beside the nodes.
func (r *row) external() bool { return r.nats || r.nodes > 1 }

// figure is one number of a row.
type figure struct {
	what   string
	unit   unit
	goal   float64
	atMost bool      // the goal is a limit from above
	says   string    // the goal in words; empty = the number
	peers  [4]string // Centrifugo, naive hub, NATS WebSocket, prototype, as measured on this kind of machine
	value  func(*measurement) float64
}

// unit says how to write a figure.
type unit int

const (
	count unit = iota
	milliseconds
	microseconds
	times
	seconds
	megabytes
	kilobytes
	percent
)

func (u unit) text(v float64) string {
	switch u {
	case milliseconds:
		return significant(v) + " ms"
	case microseconds:
		return significant(v) + " µs"
	case times:
		return fmt.Sprintf("%.2f ×", v)
	case seconds:
		return fmt.Sprintf("%.2f", v)
	case megabytes:
		return fmt.Sprintf("%.0f MB", v)
	case kilobytes:
		return fmt.Sprintf("%.2f KB", v)
	case percent:
		return fmt.Sprintf("%.1f %%", v)
	case count:
	}
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e5:
		return fmt.Sprintf("%.0f k", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.1f k", v/1e3)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// significant writes about three digits, without an exponent.
func significant(v float64) string {
	switch {
	case math.Abs(v) < 0.005:
		return "0.00" // without a sign
	case math.Abs(v) < 10:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 100:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// ephemeral is a configuration with a namespace that keeps no history.
const ephemeral = "namespaces:\n  eph:\n    history: {size: 0}\n"

// deep is a configuration with a namespace that keeps what sockets miss while they do
// not read: of a saturated room that is more than the 1,000 messages of the default.
const deep = "namespaces:\n  deep:\n    history: {size: 1000000}\n"

// The rows of the raw writer: its calls to sockets that were written to just before, and
// to sockets that were not for a while.
const (
	rawHot  = "raw hot"
	rawCold = "raw cold"
)

// fanOut is the one figure of the rows that ask how cheap a delivery is.
func fanOut(goal float64, peers ...string) []figure {
	return []figure{{what: "deliveries per CPU s", goal: goal, peers: [4]string(peers), value: perCPU}}
}

func perCPU(r *measurement) float64 { return r.Traffic.DeliveriesPerCPU }

// rows is the whole table.
func rows() []row {
	room := func(sockets, inFlight string, more ...string) []string {
		return append([]string{"--rooms", "1", "--sockets", sockets, "--in-flight", inFlight}, more...)
	}
	personal := func(inFlight string, more ...string) []string {
		return append([]string{"--rooms", "10000", "--sockets", "10000", "--in-flight", inFlight}, more...)
	}
	eph := []string{"--room-prefix", "eph:bench-"}
	stream := []string{"--mode", "stream"}
	return slices.Concat([]row{
		{
			name: "B1", what: "1 room × 1,000 sockets, 64 in flight", nodes: 1, flags: room("1000", "64"), against: rawHot,
			figures: fanOut(1.1e6, "0.53 M (1.0 M with PRO's write delay)", "0.21 M", "1.03 M", "1.23 M"),
		},
		{
			name: "B2(64)", what: "1 room × 10,000 sockets, 64 in flight", nodes: 1, flags: room("10000", "64"),
			figures: fanOut(2.0e6, "0.084 M", "0.10 M", "0.094 M", "3.2 M"),
		},
		{
			name: "B2(8)", what: "1 room × 10,000 sockets, 8 in flight", nodes: 1, flags: room("10000", "8"),
			figures: fanOut(0.4e6, "0.11 M", "0.10 M", "0.094 M", "0.56 M"),
		},
		{
			name: rawHot, what: "no service: one write a message and socket, 1,000 sockets", raw: true, flags: room("1000", "8"),
			figures: figuresOfRaw(),
		},
		{
			name: rawCold, what: "the same, 10,000 sockets, 5 messages/s", raw: true, flags: room("10000", "64", "--rate", "5"),
			figures: figuresOfRaw(),
		},
		{
			name: "C", what: "1 room × 10,000 sockets, 5 messages/s", nodes: 1, flags: room("10000", "64", "--rate", "5"), against: rawCold,
			figures: figuresOfC(),
		},
		{
			name: "D unary ephemeral", what: "10,000 personal rooms in turn, 32 calls at once", nodes: 1, config: ephemeral, flags: personal("32", eph...),
			figures: fanOut(20e3, "12.5 k", "40.8 k (Redis, no gRPC)", "57.5 k (no gRPC)", "22–24.6 k"),
		},
		{
			name: "D unary stored", what: "the same, with history", nodes: 1, flags: personal("32"),
			figures: fanOut(14e3, "–", "–", "–", "–"),
		},
		{
			name: "D stream ephemeral", what: "the same rooms, one PublishStream, 512 in flight", nodes: 1, config: ephemeral, flags: personal("512", append(stream, eph...)...),
			figures: fanOut(60e3, "–", "–", "–", "102 k"),
		},
		{
			name: "D stream stored", what: "the same, with history", nodes: 1, flags: personal("512", stream...),
			figures: fanOut(25e3, "–", "–", "–", "–"),
		},
		{
			name: "F", what: "two nodes and a NATS server; 4,000 messages/s to 1,000 rooms with a socket each on node 1", nodes: 2, idle: true,
			flags:   []string{"--rooms", "1000", "--sockets", "1000", "--in-flight", "1024", "--rate", "4000"},
			figures: figuresOfF(),
		},
		{
			name: "H", what: "a personal room's p99 beside row B2(64), to its p99 without", nodes: 1, flags: room("10000", "64", "--probe-room"),
			figures: figuresOfH(),
		},
		{
			name: "S", what: "row B1 with 1,000 more sockets that read nothing for 8 s", nodes: 1, nats: true, config: deep,
			first: [][]string{
				room("1000", "64", "--room-prefix", "deep:bench-", "--duration", "8s"),
				room("1000", "64", "--room-prefix", "deep:bench-", "--duration", "800ms", "--stalled", "1000", "--stall", "800ms"),
			},
			flags:   room("1000", "64", "--room-prefix", "deep:bench-", "--duration", "8s", "--stalled", "1000", "--stall", "8s"),
			figures: figuresOfS(),
		},
	}, resumeRows(), publishRows(), idleRows(), hostileRows())
}
