package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roomcast/roomcast/internal/bench"
)

const (
	foes        = 5000
	foesAtOnce  = 64
	foePatience = 30 * time.Second // for the end of all
	healthy     = 200              // sockets
	busyRoom    = "bench-0"        // theirs

	servedPace  = 250 * time.Millisecond // a byte: 24 of them are there in time
	stalledPace = time.Second            // they are not
)

// hostile is a way to be a bad client.
type hostile struct {
	name, what string
	open       func(f *foe) error // until it is one
	then       func(f *foe) error // while it listens; nil = nothing
	deaf       bool               // it does not listen until the node has closed it
	end        string             // what each has to see
	code       string             // what the node has to count for each; empty = it was no socket
	during     string             // how long the healthy load lasts
}

func kinds() []hostile {
	return []hostile{
		{
			name: "X nothing", what: "connect and say nothing", end: goneSilently, during: "20s",
			open: func(*foe) error { return nil },
		},
		{
			name: "X half request", what: "send half a request", end: goneSilently, during: "20s",
			open: func(f *foe) error {
				text := f.request("", f.token)
				_, err := f.conn.Write([]byte(text[:len(text)/2]))
				return err
			},
		},
		{
			name: "X slow request", what: "send their request byte by byte, too slowly", end: goneSilently, during: "20s",
			open: func(*foe) error { return nil },
			then: func(f *foe) error {
				f.trickle(f.request("", f.token), servedPace)
				return nil
			},
		},
		{
			name: "X no token", what: "never authenticate", end: "4408 AUTH_TIMEOUT", code: "4408", during: "20s",
			open: func(f *foe) error { return f.upgrade("", "") },
		},
		{
			name: "X half frame", what: "send half a frame", end: "4408 FRAME_STALLED", code: "4408", during: "20s",
			open: func(f *foe) error {
				if err := f.upgrade("", f.token); err != nil {
					return err
				}
				_, err := f.conn.Write([]byte(masked(ping)[:12]))
				return err
			},
		},
		{
			name: "X deaf", what: "subscribe the healthy ones' room and never read", end: goneSilently, code: "4502", deaf: true, during: "75s",
			open: func(f *foe) error {
				if tcp, ok := f.conn.(*net.TCPConn); ok {
					_ = tcp.SetReadBuffer(smallBuffer)
				}
				return f.upgrade("?room="+busyRoom, f.token)
			},
		},
		{
			name: "X byte by byte", what: "send a request byte by byte in time, then one too slowly", end: "4408 FRAME_STALLED", code: "4408", during: "30s",
			open: func(f *foe) error { return f.upgrade("", f.token) },
			then: byteByByte,
		},
	}
}

const ping = `{"id":1,"ping":{}}`

// byteByByte is served first.
func byteByByte(f *foe) error {
	for _, pace := range []time.Duration{0, servedPace} { // of the welcome, and of the answer
		if pace > 0 {
			f.trickle(masked(ping), pace)
		}
		select {
		case <-f.answers:
		case <-f.over:
			return errors.New("ended before it was served: " + f.end)
		}
	}
	f.trickle(masked(ping), stalledPace)
	return nil
}

// siege is what a run with hostile clients has found.
type siege struct {
	before, most, after vitals
	ends                map[string]int // by what they saw
	first, last         time.Duration  // from the misdeed to its end
}

func hostileRows() (all []row) {
	for _, h := range kinds() {
		all = append(all, row{
			name: h.name, what: fmt.Sprintf("%d clients %s, beside %d healthy sockets", foes, h.what, healthy), nodes: 1,
			figures: figuresOfX(),
			run:     func(ctx context.Context, w *workshop, r *row) (*measurement, error) { return besiege(ctx, w, r, &h) },
		})
	}
	return all
}

func figuresOfX() []figure {
	return []figure{
		{what: "RSS a client, at most", unit: kilobytes, peers: none(), value: func(m *measurement) float64 { return m.siege.each() }},
		{what: "s until the last was closed", unit: seconds, peers: none(), value: func(m *measurement) float64 { return m.siege.last.Seconds() }},
		{what: "the healthy ones' p99", unit: milliseconds, peers: none(), value: func(m *measurement) float64 { return m.Delivery.P99 }},
	}
}

// each is what a hostile client holds of the node's memory, in kilobytes.
func (s *siege) each() float64 { return (s.most.rss - s.before.rss) / foes / 1e3 }

// writeSieges writes what each run with hostile clients has found.
func writeSieges(b *strings.Builder, results []result) {
	header := "| | RSS a client, at most | MB before, at most, after | goroutines | descriptors | what they saw | first and last closed after | healthy p50, p99 before | meanwhile | other load |\n" +
		"|---|---|---|---|---|---|---|---|---|---|\n"
	for _, r := range results {
		for _, m := range r.runs {
			s := m.siege
			if s == nil {
				continue
			}
			b.WriteString(header)
			header = ""
			fmt.Fprintf(b, "| %s | %s | %.0f, %.0f, %.0f | %.0f, %.0f, %.0f | %.0f, %.0f, %.0f | %s | %.1f s, %.1f s | %s, %s | %s, %s | %s |\n",
				r.row.name, kilobytes.text(s.each()), s.before.rss/1e6, s.most.rss/1e6, s.after.rss/1e6,
				s.before.goroutines, s.most.goroutines, s.after.goroutines, s.before.files, s.most.files, s.after.files,
				s.seen(), s.first.Seconds(), s.last.Seconds(),
				milliseconds.text(m.first[0].Delivery.P50), milliseconds.text(m.first[0].Delivery.P99),
				milliseconds.text(m.Delivery.P50), milliseconds.text(m.Delivery.P99), percent.text(otherLoad(m)))
		}
	}
	if header == "" {
		b.WriteByte('\n')
	}
}

// besiege measures the healthy ones alone, then with the hostile ones for company.
func besiege(ctx context.Context, w *workshop, r *row, h *hostile) (*measurement, error) {
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
	load := func(duration string) []string {
		return []string{
			"--rooms", "1", "--sockets", fmt.Sprint(healthy), "--rate", "10", "--payload", "8192",
			"--warmup", "1s", "--duration", duration,
		}
	}
	m := &measurement{first: make([]bench.Report, 1), siege: &siege{ends: map[string]int{}}}
	if err := w.bench(ctx, s, r, load("5s"), &m.first[0]); err != nil {
		return nil, err
	}
	_, err = s.nodes[0].until(ctx, "nobody is there", startPatience, func(v *vitals) bool { return v.sockets == 0 })
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.bench(ctx, s, r, load(h.during), &m.Report) })
	group.Go(func() error { return m.siege.lay(ctx, s.nodes[0], h, w.token) })
	return m, group.Wait()
}

// lay has the hostile clients come, and waits until nothing is left of them.
func (s *siege) lay(ctx context.Context, node *process, h *hostile, token string) error {
	_, err := node.until(ctx, "the healthy ones are there", startPatience, func(v *vitals) bool { return v.sockets == healthy })
	if err != nil {
		return err
	}
	if err := pause(ctx, settling); err != nil {
		return err
	}
	if s.before, err = node.vitals(ctx); err != nil {
		return err
	}
	stop := node.watch(ctx)
	err = s.fight(ctx, node, h, token)
	s.most = stop()
	if err != nil {
		return err
	}
	if s.after, err = node.until(ctx, "nothing is left of the hostile ones", foePatience, func(v *vitals) bool { return v.back(&s.before) }); err != nil {
		return err
	}
	if s.after.sockets != healthy {
		return fmt.Errorf("%v of %d healthy sockets were left at the end", s.after.sockets, healthy)
	}
	if counted := s.after.closes[h.code] - s.before.closes[h.code]; h.code != "" && counted != foes {
		return fmt.Errorf("the node counts %v closes with %s, want %d; in all %v", counted, h.code, foes, s.after.closes)
	}
	if s.ends[h.end] != foes {
		return fmt.Errorf("they saw %s, want %d times %s", s.seen(), foes, h.end)
	}
	return nil
}

// seen lists what the clients saw.
func (s *siege) seen() string {
	var parts []string
	for _, end := range slices.Sorted(maps.Keys(s.ends)) {
		parts = append(parts, fmt.Sprintf("%d times %s", s.ends[end], end))
	}
	return strings.Join(parts, ", ")
}

// fight opens all hostile clients and waits for their ends.
func (s *siege) fight(ctx context.Context, node *process, h *hostile, token string) error {
	release := make(chan struct{})
	all := make([]*foe, foes)
	defer func() {
		for _, f := range all {
			if f != nil && f.conn != nil {
				_ = f.conn.Close() // by now the node has, or never will
			}
		}
	}()
	ends, _ := errgroup.WithContext(ctx)
	group, opening := errgroup.WithContext(ctx)
	group.SetLimit(foesAtOnce)
	for i := range all {
		f := &foe{url: node.addrs.HTTP, token: token, release: release, answers: make(chan struct{}, 1), over: make(chan struct{})}
		all[i] = f
		group.Go(func() error {
			err := f.dial(opening)
			if err == nil {
				err = h.open(f)
			}
			if err != nil {
				return fmt.Errorf("client %d of %d: %w", i+1, foes, err)
			}
			ends.Go(func() error { return f.act(h) })
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if h.deaf {
		if _, err := node.until(ctx, "the deaf ones are closed", foePatience, func(v *vitals) bool { return v.sockets <= s.before.sockets }); err != nil {
			return err
		}
	}
	s.last = time.Since(all[foes-1].since)
	s.first = s.last // of deaf ones the node knows the last
	close(release)
	if err := ends.Wait(); err != nil {
		return err
	}
	s.count(all, h.deaf)
	return nil
}

// act does what is bad, and listens to what comes of it.
func (f *foe) act(h *hostile) error {
	_ = f.conn.SetReadDeadline(time.Now().Add(2 * foePatience))
	if h.deaf {
		<-f.release
	}
	go f.listen()
	var err error
	if h.then != nil {
		err = h.then(f)
	}
	<-f.over
	f.lasted = f.told.Sub(f.since)
	return err
}

// count takes stock. When a deaf one was closed only the node knows.
func (s *siege) count(all []*foe, deaf bool) {
	if !deaf {
		s.first, s.last = all[0].lasted, 0
	}
	for _, f := range all {
		s.ends[f.end]++
		if !deaf {
			s.first, s.last = min(s.first, f.lasted), max(s.last, f.lasted)
		}
	}
}
