package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roomcast/roomcast/internal/bench"
)

const (
	publishRooms = 1000 // messages go to them in turn; nobody listens
	batchOf      = 100  // messages of one batch
	unanswered   = 64   // messages of one stream that have no answer yet
	manyCallers  = 64

	// publishFor is the part of a row's duration that each way to publish gets.
	publishFor = 0.5
)

// publishes is what one way to publish has reached.
type publishes struct {
	way     string
	callers int
	bare    bool // nats.go alone, on the same servers
	Usage   bench.Usage
	count   int             // messages acknowledged
	waits   []time.Duration // sorted: from the call to the acknowledgement, of a call or of a message of a stream
}

func (p *publishes) perSecond() float64 { return float64(p.count) / p.Usage.Seconds }

// quantile is a latency in milliseconds.
func (p *publishes) quantile(q float64) float64 {
	if len(p.waits) == 0 {
		return 0
	}
	return p.waits[int(q*float64(len(p.waits)-1))].Seconds() * 1e3
}

// publishWays are the ways to publish, and how many callers do it at once.
var publishWays = []struct {
	name    string
	callers int
}{
	{"unary", 1}, {"unary", manyCallers}, {"batch", 1}, {"batch", manyCallers}, {"stream", 1}, {"stream", manyCallers},
}

// publishRows are messages that nobody listens to: what an acknowledgement costs, beside
// what it costs with nats.go alone.
func publishRows() []row {
	what := "all ways to publish, each beside bare nats.go on the same servers; "
	return []row{
		{
			name: "P R1", what: what + "one nats-server", nodes: 1, nats: true,
			run: publishing, figures: figuresOfPublishing(),
		},
		{
			name: "P R3", what: what + "a cluster of three, R3", nodes: 1, nats: true, servers: 3,
			run: publishing, figures: figuresOfPublishing(),
		},
	}
}

func figuresOfPublishing() []figure {
	find := func(m *measurement, way string, callers int, bare bool) *publishes {
		for i, p := range m.published {
			if p.way == way && p.callers == callers && p.bare == bare {
				return &m.published[i]
			}
		}
		return &publishes{}
	}
	return []figure{
		{
			what: "one caller, unary: p50 beyond bare nats.go's", unit: milliseconds, peers: none(),
			value: func(m *measurement) float64 {
				return find(m, "unary", 1, false).quantile(.5) - find(m, "unary", 1, true).quantile(.5)
			},
		},
		{
			what: "64 callers, unary: messages/s", peers: none(),
			value: func(m *measurement) float64 { return find(m, "unary", manyCallers, false).perSecond() },
		},
		{
			what: "one stream: messages/s", peers: none(),
			value: func(m *measurement) float64 { return find(m, "stream", 1, false).perSecond() },
		},
	}
}

// publishing measures all ways to publish, one after the other, each right before the
// same with nats.go alone.
func publishing(ctx context.Context, w *workshop, r *row) (*measurement, error) {
	dir, err := os.MkdirTemp(w.dir, "run-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := w.start(ctx, r, dir)
	defer s.stop()
	if err != nil {
		return nil, err
	}
	ours, err := newCallers(s.nodes[0].addrs.GRPC, w.token)
	if err != nil {
		return nil, err
	}
	defer ours.close()
	bare, err := newBare(ctx, s.url, max(1, r.servers))
	if err != nil {
		return nil, err
	}
	defer bare.close()
	if err := pause(ctx, settling); err != nil {
		return nil, err
	}
	m := &measurement{}
	for _, way := range publishWays {
		for _, of := range []publisher{ours, bare} {
			p, err := w.publishes(ctx, s.pids(), of, way.name, way.callers)
			if err != nil {
				return nil, fmt.Errorf("%s, %d callers, bare %t: %w", way.name, way.callers, of == publisher(bare), err)
			}
			p.bare = of == publisher(bare)
			m.published = append(m.published, *p)
			m.Usage.Seconds += p.Usage.Seconds
			m.Usage.CPU += p.Usage.CPU
			m.Usage.Self += p.Usage.Self
			m.Usage.Other += p.Usage.Other
		}
	}
	return m, nil
}

// publisher publishes in one of the ways.
type publisher interface {
	// publish publishes until ctx ends, and tells of each acknowledgement: how many
	// messages, and how long after the call. from differs between callers.
	publish(ctx context.Context, way string, from int, acked func(messages int, wait time.Duration)) error
}

// publishes has callers publish for a while, and measures all but the first quarter.
func (w *workshop) publishes(ctx context.Context, pids []int, of publisher, way string, callers int) (*publishes, error) {
	window := time.Duration(float64(w.duration) * publishFor)
	p := &publishes{way: way, callers: callers}
	heard := make([]publishes, callers)
	var from, to time.Time
	began := make(chan struct{})
	running, stop := context.WithCancel(ctx)
	defer stop()
	group, running := errgroup.WithContext(running)
	for i := range callers {
		group.Go(func() error {
			return of.publish(running, way, i*publishRooms/callers, func(messages int, wait time.Duration) {
				select {
				case <-began:
					heard[i].count += messages
					heard[i].waits = append(heard[i].waits, wait)
				default:
				}
			})
		})
	}
	group.Go(func() (err error) {
		defer stop()
		if err := pause(running, window/4); err != nil {
			return err
		}
		from = time.Now()
		close(began)
		p.Usage, err = metered(pids, func() error { return pause(running, window) })
		to = time.Now()
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i := range heard {
		p.count += heard[i].count
		p.waits = append(p.waits, heard[i].waits...)
	}
	p.Usage.Seconds = to.Sub(from).Seconds()
	slices.Sort(p.waits)
	return p, nil
}

// writePublishes writes what each way to publish has reached, medians of the runs.
func writePublishes(b *strings.Builder, results []result) {
	header := "| | way | callers | p50 | p99 | messages/s | CPU a message | bare p50 | bare p99 | bare messages/s | bare CPU a message |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|\n"
	for _, r := range results {
		if r.runs[0].published == nil {
			continue
		}
		b.WriteString(header)
		header = ""
		for i, way := range publishWays {
			fmt.Fprintf(b, "| %s | %s | %d |", r.row.name, way.name, way.callers)
			for _, at := range []int{2 * i, 2*i + 1} {
				of := func(value func(p *publishes) float64) float64 {
					return median(r.values(&figure{value: func(m *measurement) float64 { return value(&m.published[at]) }}))
				}
				fmt.Fprintf(b, " %s | %s | %s | %s |",
					milliseconds.text(of(func(p *publishes) float64 { return p.quantile(.5) })),
					milliseconds.text(of(func(p *publishes) float64 { return p.quantile(.99) })),
					count.text(of((*publishes).perSecond)),
					microseconds.text(of(func(p *publishes) float64 { return 1e6 * p.Usage.CPU / float64(max(1, p.count)) })))
			}
			b.WriteByte('\n')
		}
	}
	if header == "" {
		b.WriteString("\nCPU a message is the node's and the nats-servers' together. A batch's time is the call's.\n\n")
	}
}
