package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

const (
	dialersAtOnce = 32
	tellEvery     = 200 * time.Millisecond

	// manySockets is from when on a second lane is worth a goroutine.
	manySockets = 1000

	probeInFlight = 256
)

// Bench is one measurement of running nodes.
type Bench struct {
	cfg      Config
	clock    clock
	problems problems
	sampler  sampler
	main     *load
	probe    *load // nil = none
	readers  []reader
	service  roomcastv1.PublishServiceClient
	second   roomcastv1.PublishServiceClient

	connected atomic.Int64
	phase     atomic.Pointer[phase]
}

// phase is what Status says of a phase.
type phase struct {
	name  Phase
	began time.Time
}

// New checks what is to be measured. The probe publishes over a connection of its own,
// beside; it may be nil without a probe. The error is the caller's mistake.
func New(cfg Config, service, beside roomcastv1.PublishServiceClient) (*Bench, error) {
	if err := cfg.normalize(); err != nil {
		return nil, err
	}
	b := &Bench{cfg: cfg, clock: clock{time.Now()}, service: service, second: beside}
	b.sampler = sampler{clock: b.clock, pids: cfg.ServerPIDs}
	if _, err := b.sampler.sample(); err != nil {
		return nil, err
	}
	lanes := 1
	if cfg.Load.Sockets >= manySockets && runtime.NumCPU() > 1 {
		lanes = 2
	}
	b.main = newLoad(cfg.Load, b.clock, lanes, &b.problems)
	if cfg.ProbeRate > 0 {
		b.probe = newLoad(Load{
			Rooms: 1, Sockets: 1, RoomPrefix: cfg.Load.RoomPrefix + "probe-", InFlight: probeInFlight, Publishers: probeInFlight,
			Mode: Unary, Rate: cfg.ProbeRate, Payload: cfg.Load.Payload,
		}, b.clock, 1, &b.problems)
	}
	return b, nil
}

// Run connects, warms up, measures and waits for the last deliveries. What went wrong
// with messages and sockets is in the report's Errors; the error means that there is
// no report.
func (b *Bench) Run(ctx context.Context) (*Report, error) {
	defer b.stopReaders()
	defer b.tell()()
	report := &Report{Load: b.main.report(), Format: b.cfg.Format, Warmup: b.cfg.Warmup.Seconds()}
	var err error
	if report.Connect, err = b.connect(ctx); err != nil {
		return nil, err
	}
	if b.cfg.Idle > 0 {
		if report.Idle, err = b.idle(ctx); err != nil {
			return nil, err
		}
	}
	if b.probe != nil {
		report.Probe = &Probe{Rate: b.cfg.ProbeRate}
		if report.Probe.Alone, err = b.probeAlone(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.measure(ctx, report); err != nil {
		return nil, err
	}
	if report.Stalled != nil {
		if err := b.drainStalled(ctx, report.Stalled); err != nil {
			return nil, err
		}
	}
	b.stopReaders()
	lost := b.main.audit()
	all, last := b.main.latencies()
	report.Delivery, report.Last = all.latency(), last.latency()
	if b.probe != nil {
		lost += b.probe.audit()
		beside, _ := b.probe.latencies()
		report.Probe.Beside = beside.latency()
		if alone := report.Probe.Alone.P99; alone > 0 {
			report.Probe.Ratio = report.Probe.Beside.P99 / alone
		}
	}
	report.Errors = b.problems.errors(lost)
	return report, nil
}

// loads are the main load and the probe's.
func (b *Bench) loads() []*load {
	if b.probe == nil {
		return []*load{b.main}
	}
	return []*load{b.main, b.probe}
}

// connect opens all sockets.
func (b *Bench) connect(ctx context.Context) (Connect, error) {
	b.enter(Connecting)
	dialers := make([]*dialer, len(b.cfg.URLs))
	for i, address := range b.cfg.URLs {
		var err error
		if dialers[i], err = newDialer(address, b.cfg.Format, b.cfg.TLS); err != nil {
			return Connect{}, err
		}
	}
	readers := make(map[*lane]reader)
	var sockets []*socket
	for _, l := range b.loads() {
		for _, lane := range l.allLanes() {
			r, err := newReader(lane)
			if err != nil {
				return Connect{}, err
			}
			readers[lane] = r
			b.readers = append(b.readers, r)
		}
		sockets = append(append(sockets, l.sockets...), l.stalled...)
	}
	for i, s := range sockets {
		s.token = b.cfg.Token
		if b.cfg.TokenOf != nil {
			var err error
			if s.token, err = b.cfg.TokenOf(i); err != nil {
				return Connect{}, err
			}
		}
	}
	before, err := b.sampler.sample()
	if err != nil {
		return Connect{}, err
	}
	if err := b.dial(ctx, dialers, sockets, readers); err != nil {
		return Connect{}, err
	}
	after, err := b.sampler.sample()
	if err != nil {
		return Connect{}, err
	}
	c := Connect{Sockets: len(sockets), Usage: b.sampler.between(before, after)}
	c.PerSecond = float64(len(sockets)) / c.Usage.Seconds
	for _, u := range before.servers {
		c.RSSBefore = append(c.RSSBefore, u.rss)
	}
	return c, nil
}

// idle waits and returns what the service used meanwhile, and holds at the end.
func (b *Bench) idle(ctx context.Context) (*Usage, error) {
	b.enter(Idling)
	from, err := b.sampler.sample()
	if err != nil {
		return nil, err
	}
	if err := b.wait(ctx, b.cfg.Idle); err != nil {
		return nil, err
	}
	to, err := b.sampler.sample()
	used := b.sampler.between(from, to)
	return &used, err
}

// dial opens sockets, a few at once. It fails with the first that fails.
func (b *Bench) dial(ctx context.Context, dialers []*dialer, sockets []*socket, readers map[*lane]reader) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(dialersAtOnce, len(sockets)) {
		group.Go(func() error {
			buf := make([]byte, handshakeBuffer)
			for {
				i := int(next.Add(1) - 1)
				if i >= len(sockets) {
					return nil
				}
				s := sockets[i]
				conn, err := dialers[i%len(dialers)].open(ctx, s, buf)
				if err != nil {
					return fmt.Errorf("socket %d of %d, %s: %w", i+1, len(sockets), s.lane.load.rooms[s.room], err)
				}
				if err := readers[s.lane].add(s, conn); err != nil {
					return err
				}
				b.connected.Add(1)
			}
		})
	}
	return group.Wait()
}

// probeAlone measures the probe before there is load.
func (b *Bench) probeAlone(ctx context.Context) (Latency, error) {
	b.enter(Alone)
	err := b.publish(ctx, []*load{b.probe}, func(ctx context.Context) error {
		if err := b.wait(ctx, b.cfg.Warmup); err != nil {
			return err
		}
		b.probe.measure()
		defer b.probe.stopMeasuring()
		return b.waitAtLeast(ctx, b.cfg.Duration, b.probe.measures)
	})
	all, _ := b.probe.latencies()
	return all.latency(), err
}

// measure publishes to all loads and fills in what the report says of it.
func (b *Bench) measure(ctx context.Context, report *Report) error {
	b.enter(Warming)
	return b.publish(ctx, b.loads(), func(ctx context.Context) error {
		if err := b.wait(ctx, b.cfg.Warmup); err != nil {
			return err
		}
		b.enter(Measuring)
		if b.main.aside == nil {
			return b.measureNow(ctx, report)
		}
		before, err := b.memory(ctx)
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() (err error) {
			report.Stalled, err = b.stall(ctx, before)
			return err
		})
		group.Go(func() error { return b.measureNow(ctx, report) })
		return group.Wait()
	})
}

// measureNow measures what is being published.
func (b *Bench) measureNow(ctx context.Context, report *Report) error {
	from, err := b.sampler.sample()
	if err != nil {
		return err
	}
	published, before := b.main.published(), b.main.counts()
	for _, l := range b.loads() {
		l.measure()
	}
	// Where messages are few and far between, a measurement of none would be none.
	err = b.waitAtLeast(ctx, b.cfg.Duration, func() bool { return b.main.measures() && (b.probe == nil || b.probe.measures()) })
	if err != nil {
		return err
	}
	for _, l := range b.loads() {
		l.stopMeasuring()
	}
	counted, until := b.main.counts(), b.main.published()
	to, err := b.sampler.sample()
	if err != nil {
		return err
	}
	report.Usage = b.sampler.between(from, to)
	report.Traffic = newTraffic(until-published, counted.minus(before), report.Usage)
	b.enter(Draining)
	return nil
}

// publish lets loads publish until body returns, then waits for their last deliveries.
func (b *Bench) publish(ctx context.Context, loads []*load, body func(context.Context) error) error {
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	group, calls := errgroup.WithContext(ctx)
	for _, l := range loads {
		p := &publisher{load: l, service: b.service}
		if l == b.probe {
			p.service = b.second
		}
		group.Go(func() error { return p.run(calls, publishing) })
	}
	group.Go(func() error {
		defer stop()
		return body(calls)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return b.drain(ctx, loads)
}
