package bus

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// replayConns is how many connections read the log. They are apart from the live and
// publish connections because a Direct Get runs in its connection's read loop on the
// server.
const replayConns = 4

// inboxPrefix lets NATS permissions name our reply subjects.
const inboxPrefix = "_INBOX_rc"

// writeTimeout bounds one write to NATS.
const writeTimeout = time.Second

// Config is what a bus needs.
type Config struct {
	Node        string      // the node's name, for the connections' names
	Server      Server      // an external NATS
	Embedded    nats.Option // or the one in this process
	Policies    *room.Policies
	Replicas    int  // of streams; 0 = 1
	AllowShrink bool // let a smaller history drop messages at start
	Metrics     *metrics.Metrics
	Logger      *slog.Logger
}

// Bus is a node's link to NATS. Safe for concurrent use.
type Bus struct {
	// static after Open
	cfg     Config
	log     *slog.Logger
	ctl     *nats.Conn // stream management, leader reads
	js      jetstream.JetStream
	pub     *nats.Conn
	live    *nats.Conn
	replay  []*nats.Conn
	streams map[string]*logStream // by namespace
	shards  []*shard
	seed    maphash.Seed // spreads rooms over shards
	acks    *publisher
	members *members
	asks    *asks
	revoked *revocations
	joins   *joiner       // of ephemeral rooms; those of stored rooms are their stream's
	window  chan struct{} // bounds unary publications that wait for the log

	ctx    context.Context //nolint:containedctx // the life of the goroutines that the bus starts
	cancel context.CancelFunc
	wg     sync.WaitGroup
	up     atomic.Bool // every connection is made
	ailing ailing
	fatal  chan error // one slot: the first thing that the bus cannot mend

	mu     sync.Mutex // held where ctx ends
	nextRC int        // guarded by mu: the replay connection used last
}

// Open connects to NATS, waiting for it and saying so until ctx ends, makes or checks
// the streams, and starts the bus. The caller must Close it.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	b := &Bus{
		cfg:     cfg,
		log:     cfg.Logger.With("part", "bus"),
		streams: make(map[string]*logStream),
		seed:    maphash.MakeSeed(),
		window:  make(chan struct{}, maxUnacked),
		fatal:   make(chan error, 1),
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	b.members = newMembers(b)
	b.asks = newAsks(b)
	b.joins = &joiner{bus: b}
	b.revoked = newRevocations(b)
	if err := b.start(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bus) start(ctx context.Context) error {
	for range shardCount {
		b.shards = append(b.shards, newShard(b))
	}
	conns := []struct {
		name string
		conn **nats.Conn
	}{{"ctl", &b.ctl}, {"pub", &b.pub}, {"live", &b.live}}
	b.replay = make([]*nats.Conn, replayConns)
	for i := range b.replay {
		conns = append(conns, struct {
			name string
			conn **nats.Conn
		}{fmt.Sprintf("replay%d", i), &b.replay[i]})
	}
	for _, c := range conns {
		nc, err := b.connect(ctx, c.name)
		if err != nil {
			return err
		}
		*c.conn = nc
	}
	var err error
	if b.js, err = jetstream.New(b.ctl); err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	for _, policy := range b.cfg.Policies.All() {
		if !policy.Stored() {
			continue
		}
		s, err := b.ensureStream(ctx, policy)
		if err != nil {
			return err
		}
		b.streams[policy.Namespace] = s
		b.anchor(ctx, s)
	}
	if b.acks, err = newPublisher(b); err != nil {
		return err
	}
	if b.cfg.Embedded == nil { // who has a NATS of his own is alone
		if err := b.answerBarriers(); err != nil {
			return err
		}
		if err := b.watchLeaders(); err != nil {
			return err
		}
		if err := b.asks.start(); err != nil {
			return err
		}
		if err := b.members.start(); err != nil {
			return err
		}
	}
	for _, s := range b.shards {
		b.wg.Go(s.run)
	}
	for _, s := range b.streams {
		b.wg.Go(s.audit.run)
	}
	if err := b.startCanaries(); err != nil {
		return err
	}
	b.wg.Go(b.keepAnchors)
	b.wg.Go(b.countInbound)
	if b.cfg.Embedded == nil {
		b.wait(helloPatience) // whether this node may publish is for the others to say, too
	}
	b.up.Store(true)
	b.cfg.Metrics.BusConnected.Set(1)
	return nil
}

// connect dials one connection and waits for a NATS that is not there yet.
func (b *Bus) connect(ctx context.Context, name string) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("roomcast " + b.cfg.Node + " " + name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),         // a publish without a connection fails at once
		nats.FlusherTimeout(writeTimeout), // a server that does not read is a connection lost
		nats.CustomInboxPrefix(inboxPrefix),
		nats.ErrorHandler(b.onError),
		nats.ClosedHandler(b.onClosed),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.onDisconnect(name, err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.onReconnect(name, nc) }),
	}
	credentials, err := b.cfg.Server.options()
	if err != nil {
		return nil, fmt.Errorf("nats credentials: %w", err)
	}
	opts = append(opts, credentials...)
	url := b.cfg.Server.URL
	if b.cfg.Embedded != nil {
		opts = append(opts, b.cfg.Embedded)
		url = nats.DefaultURL // not dialled: the connection is a pipe
	}
	for tries := 0; ; tries++ {
		nc, err := nats.Connect(url, opts...)
		if err == nil {
			return nc, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrNoServers) && b.cfg.Embedded != nil {
			return nil, fmt.Errorf("connect to nats: %w", err)
		}
		if tries%10 == 0 {
			b.log.Warn("waiting for nats", "url", redactURL(url), "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to nats %s: %w", redactURL(url), err)
		case <-time.After(time.Second):
		}
	}
}

// Close stops the bus: publications in flight end with UNAVAILABLE, rooms are told
// nothing more. It returns when every goroutine of the bus has ended.
func (b *Bus) Close() {
	b.mu.Lock()
	b.cancel()
	b.mu.Unlock()
	if b.members.sub != nil {
		<-b.members.gone
	}
	if b.acks != nil {
		b.acks.stop()
	}
	for _, nc := range append([]*nats.Conn{b.live, b.pub, b.ctl}, b.replay...) {
		if nc != nil {
			nc.Close()
		}
	}
	b.wg.Wait()
}

// spawn runs what Close waits for. Once Close has begun it does nothing.
func (b *Bus) spawn(run func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() == nil {
		b.wg.Go(run)
	}
}

// Fatal yields the error that ended the bus for good: NATS closed a connection and
// will not take it back. The node must stop.
func (b *Bus) Fatal() <-chan error { return b.fatal }

func (b *Bus) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		b.shardOfSubject(sub.Subject).post(func(s *shard) { s.overrun(sub.Subject) })
		return
	}
	b.log.Warn("nats error", "err", err)
}

func (b *Bus) onClosed(nc *nats.Conn) {
	if b.ctx.Err() != nil {
		return
	}
	err := nc.LastError()
	if err == nil {
		err = nats.ErrConnectionClosed
	}
	b.log.Error("nats connection closed for good", "err", err)
	select {
	case b.fatal <- fmt.Errorf("nats closed the connection: %w", err):
	default:
	}
}

func (b *Bus) onDisconnect(name string, err error) {
	if b.ctx.Err() != nil {
		return
	}
	b.cfg.Metrics.BusConnected.Set(0)
	b.log.Log(b.ctx, levelOf(name), "nats disconnected", "connection", name, "err", err)
	if name == "live" && b.up.Load() {
		for _, s := range b.shards { // before the first message that comes after it
			s.post((*shard).doubtAll)
		}
	}
}

func (b *Bus) onReconnect(name string, nc *nats.Conn) {
	if !b.up.Load() {
		return // the rest of Open finds what it needs
	}
	b.cfg.Metrics.BusReconnects.Inc()
	b.log.Log(b.ctx, levelOf(name), "nats reconnected", "connection", name, "url", nc.ConnectedUrlRedacted())
	if b.live.IsConnected() && b.pub.IsConnected() && b.ctl.IsConnected() {
		b.cfg.Metrics.BusConnected.Set(1)
	}
	if nc == b.ctl {
		b.members.change(func() { b.members.hello, b.members.settled = true, time.Now().Add(settleTime) })
	}
	if nc != b.live {
		return
	}
	// nats.go has sent every SUB again; what was republished meanwhile is lost to us.
	// After the flush the server has them all, so the log's end is the bound.
	b.spawn(func() {
		if err := nc.FlushTimeout(10 * time.Second); err != nil {
			b.log.Warn("flush after reconnect", "err", err)
		}
		b.revoked.look()
		b.passBarriers()
		if b.cfg.Embedded == nil {
			b.sendCanary() // whether all is well again need not wait for the next
		}
		for _, s := range b.shards {
			s.post((*shard).resyncAll)
		}
		for _, s := range b.streams {
			s.audit.soon(0)
		}
	})
}

// levelOf is the level at which a connection's comings and goings are logged: one of
// the seven speaks for all.
func levelOf(name string) slog.Level {
	if name == "live" {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// countInbound keeps the metric of what NATS sends to this node, of any kind.
func (b *Bus) countInbound() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var counted uint64
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-tick.C:
		}
		var total uint64
		for _, nc := range append([]*nats.Conn{b.live, b.pub, b.ctl}, b.replay...) {
			total += nc.Stats().InMsgs
		}
		b.cfg.Metrics.BusInMessages.Add(float64(total - counted))
		counted = total
	}
}
