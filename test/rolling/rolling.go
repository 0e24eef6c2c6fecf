package rolling

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const members = 3

// Config is how the nodes are restarted.
type Config struct {
	Roomcast, NATS string   // the programs
	Fleet          []string // the command that is a fleet, see ServeFleet; empty = this process is
	Dir            string   // for logs and data
	Sockets        int
	Fleets         int // processes that share the sockets
	Rooms          int
	PerSecond      int           // messages
	Window         time.Duration // --drain-window
	Quiet          time.Duration // before the first restart and between two
	Log            io.Writer     // what happens, for people
}

// Restart is one node's.
type Restart struct {
	Node    string
	Began   time.Time
	Sockets int
	Took    time.Duration // from SIGTERM to the end
	Pace    int           // sockets a second that the node says it asks to move
	Came    int           // connections until the next restart
	Busiest int           // most of them in any second
	Stall   time.Duration // longest time in which this process had no processor
}

// Report is what a run has shown.
type Report struct {
	Restarts  []Restart
	Clients   *Tally
	Published Published
}

// Roll runs the whole: it starts everything, restarts each node once under load, and
// waits until all clients have had their last message.
func Roll(ctx context.Context, c Config) (report *Report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &roll{Config: c}
	defer r.stop()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	report = &Report{}
	for _, m := range r.members {
		if err := pause(ctx, c.Quiet); err != nil {
			return nil, err
		}
		one, err := r.restart(ctx, m)
		if err != nil {
			return nil, err
		}
		report.Restarts = append(report.Restarts, one)
		r.logf("%s has been restarted, %d sockets", one.Node, one.Sockets)
	}
	if err := pause(ctx, c.Quiet); err != nil {
		return nil, err
	}
	ends, sum := r.load.stop()
	report.Published = sum
	if report.Clients, err = r.sum(ends); err == nil {
		report.place()
	}
	return report, err
}

// place notes for each restart the connections that have come until the next one.
func (r *Report) place() {
	slices.SortFunc(r.Clients.Accepted, time.Time.Compare)
	for i := range r.Restarts {
		one := &r.Restarts[i]
		var last []time.Time // of one second
		for _, at := range r.Clients.Accepted {
			if at.Before(one.Began) || i+1 < len(r.Restarts) && !at.Before(r.Restarts[i+1].Began) {
				continue
			}
			one.Came++
			last = append(last, at)
			for at.Sub(last[0]) >= time.Second {
				last = last[1:]
			}
			one.Busiest = max(one.Busiest, len(last))
		}
	}
}

// roll is a run.
type roll struct {
	Config
	nats    *process
	members []*member
	calls   *balancer
	fleets  []*fleet
	load    *load
	stalls  *stalls
}

func (r *roll) logf(format string, args ...any) { _, _ = fmt.Fprintf(r.Log, format+"\n", args...) }

func (r *roll) start(ctx context.Context) (err error) {
	r.stalls = watchStalls()
	var url string
	if r.nats, url, err = startNATS(ctx, r.NATS, r.Dir); err != nil {
		return err
	}
	var calls []*backend
	for i := range members {
		m := &member{
			program: r.Roomcast, dir: r.Dir, name: fmt.Sprintf("n%d", i+1),
			args: []string{"--nats-url", url, "--drain-window", r.Window.String()},
		}
		if err := m.start(ctx); err != nil {
			return err
		}
		r.members = append(r.members, m)
		calls = append(calls, &backend{addr: m.addrs.GRPC, health: "http://" + m.addrs.HTTP + "/health"})
	}
	if r.calls, err = startBalancer(calls); err != nil {
		return err
	}
	if err := r.startFleets(ctx); err != nil {
		return err
	}
	r.logf("%d sockets are subscribed", r.Sockets)
	r.load, err = startLoad(r.calls.addr(), r.Rooms, r.PerSecond)
	return err
}

// startFleets starts the clients and waits until all have subscribed.
func (r *roll) startFleets(ctx context.Context) error {
	share := (r.Sockets + r.Fleets - 1) / r.Fleets
	var nodes []string
	for _, m := range r.members {
		nodes = append(nodes, m.addrs.HTTP)
	}
	for first := 0; first < r.Sockets; first += share {
		f, err := startFleet(ctx, r, Fleet{
			Nodes: nodes, First: first, Count: min(share, r.Sockets-first), Rooms: r.Rooms, PerSecond: 300,
		})
		if err != nil {
			return err
		}
		r.fleets = append(r.fleets, f)
	}
	for _, f := range r.fleets {
		if line, err := f.answers.ReadString('\n'); err != nil || line != "ready\n" {
			return fmt.Errorf("a fleet says %q: %w", line, err)
		}
	}
	return nil
}

// restart drains a node and starts it again.
func (r *roll) restart(ctx context.Context, m *member) (one Restart, err error) {
	one = Restart{Node: m.name, Began: time.Now()}
	if one.Took, err = m.drain(r.Window + startPatience); err != nil {
		return one, err
	}
	if one.Sockets, one.Pace, err = m.drained(); err != nil {
		return one, err
	}
	if err := m.start(ctx); err != nil {
		return one, err
	}
	err = m.await(ctx, func() bool { return httpStatus(ctx, "http://"+m.addrs.HTTP+"/health") == http.StatusOK })
	if err == nil {
		err = pause(ctx, r.Quiet+2*checkEvery)
	}
	one.Stall = r.stalls.longest(one.Began)
	return one, err
}

// sum tells the fleets what was published and adds up what they have noticed.
func (r *roll) sum(ends map[string]int) (*Tally, error) {
	all := newTally()
	for _, f := range r.fleets {
		if err := json.NewEncoder(f.orders).Encode(ends); err != nil {
			return nil, err
		}
	}
	for _, f := range r.fleets {
		var one Tally
		if err := readLine(f.answers, &one); err != nil {
			return nil, fmt.Errorf("the tally of a fleet: %w", err)
		}
		all.add(&one)
	}
	return all, nil
}

func (r *roll) stop() {
	if r.load != nil {
		r.load.stop()
	}
	r.stalls.stop()
	for _, f := range r.fleets {
		f.stop()
	}
	if r.calls != nil {
		r.calls.stop()
	}
	for _, m := range r.members {
		if m.process != nil {
			m.kill()
		}
	}
	if r.nats != nil {
		r.nats.kill()
	}
}

// fleet is a running ServeFleet.
type fleet struct {
	orders  io.WriteCloser
	answers *bufio.Reader
	stop    func()
}

// startFleet starts a fleet as a process of its own, or in this one.
func startFleet(ctx context.Context, r *roll, f Fleet) (*fleet, error) {
	in, orders := io.Pipe()
	answers, out := io.Pipe()
	started := &fleet{orders: orders, answers: bufio.NewReader(answers)}
	if len(r.Fleet) > 0 {
		p, err := launch(r.Dir+"/fleet.log", in, out, r.Fleet[0], r.Fleet[1:]...)
		if err != nil {
			return nil, err
		}
		started.stop = func() {
			_, _ = orders.Close(), answers.Close()
			p.kill()
		}
	} else {
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			err := ServeFleet(ctx, in, out)
			_ = out.CloseWithError(errors.Join(io.EOF, err)) // the reader tells
		}()
		started.stop = func() {
			cancel()
			_, _ = orders.Close(), answers.Close()
			<-ended
		}
	}
	return started, json.NewEncoder(orders).Encode(f)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Problems says what was not as it must be; nothing if all was.
func (r *Report) Problems() (problems []string) {
	complain := func(bad bool, format string, args ...any) {
		if bad {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	t, p := r.Clients, r.Published
	complain(t.Lost > 0, "%d messages lost", t.Lost)
	complain(t.Repeated > 0, "%d messages repeated or out of order", t.Repeated)
	complain(t.Gaps > 0, "%d gaps", t.Gaps)
	complain(t.Refused > 0, "%d subscriptions ended: %v", t.Refused, t.Complaints)
	complain(p.Failed > 0, "%d publish errors: %v", p.Failed, p.Errors)
	complain(t.Delivered == 0 || p.Messages == 0, "there was no load")
	return problems
}

// PaceProblems says which nodes' sockets came back faster than the pace and a tenth,
// for clients choose their moment at random, and whether a client moved more than twice.
// Where this process had no processor for long, connections broke and came in a heap,
// and nothing can be said.
func (r *Report) PaceProblems() (problems []string) {
	stalled := slices.ContainsFunc(r.Restarts, func(one Restart) bool { return one.Stall >= longStall })
	if !stalled && r.Clients.mostMoves() > 2 {
		problems = append(problems, fmt.Sprintf("clients by moves: %v, want at most 2", r.Clients.Moves))
	}
	for _, one := range r.Restarts {
		if one.Stall < longStall && one.Busiest*10 > one.Pace*11 {
			problems = append(problems, fmt.Sprintf("%s: %d sockets in the busiest second, want at most %d", one.Node, one.Busiest, one.Pace))
		}
	}
	return problems
}

// String is the report for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-5s %8s %9s %10s %10s %15s %8s\n", "node", "sockets", "drain", "asked, 1/s", "came", "busiest second", "stall")
	for _, one := range r.Restarts {
		fmt.Fprintf(&b, "%-5s %8d %9s %10d %10d %15d %8s\n", one.Node, one.Sockets, one.Took.Round(10*time.Millisecond), one.Pace, one.Came, one.Busiest,
			one.Stall.Round(time.Millisecond))
	}
	t, p := r.Clients, r.Published
	fmt.Fprintf(&b, "published %d, errors %d, slowest call %s\n", p.Messages, p.Failed, p.Slowest.Round(time.Millisecond))
	fmt.Fprintf(&b, "delivered %d, lost %d, repeated %d, gaps %d; within %d ms (p50), %d ms (p99), %d ms (all)\n",
		t.Delivered, t.Lost, t.Repeated, t.Gaps, t.latency(0.5), t.latency(0.99), t.latency(1))
	fmt.Fprintf(&b, "clients by moves %v; connections that ended before there was another %d", t.Moves, t.Broken)
	if len(t.Complaints) > 0 {
		fmt.Fprintf(&b, " %v", t.Complaints)
	}
	return b.String() + "\n"
}
