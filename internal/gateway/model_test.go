package gateway

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

var (
	modelSeeds = flag.Int("seeds", 200, "how many seeds TestModel runs")
	modelSeed  = flag.Uint64("seed", 0, "the only seed that TestModel runs; 0 = 1 to -seeds")
)

// modelUsers is how many users a model has.
const modelUsers = 4

// TestModel has sockets of all habits come and go while rooms' logs live through
// everything that can befall them, and compares what each socket got with what a
// simple model says: see checker. What happens is random, by seed; how goroutines meet
// is up to the scheduler, so a seed that has failed may need a few runs to fail again.
// The 5,000 seeds:
//
//	go test ./internal/gateway -run '^TestModel$' -v -args -seeds 5000
func TestModel(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), uint64(*modelSeeds)
	if *modelSeed != 0 {
		first, last = *modelSeed, *modelSeed
	}
	stats, failed := &modelStats{}, &atomic.Bool{}
	t.Run("seed", func(t *testing.T) {
		t.Parallel()
		for seed := first; seed <= last; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				if failed.Load() {
					return // one is enough to look at
				}
				defer func() {
					if t.Failed() {
						failed.Store(true)
						t.Log(again(seed))
					}
				}()
				synctest.Test(t, func(t *testing.T) { runModel(t, seed, stats) })
			})
		}
	})
	t.Cleanup(func() { t.Log(stats) })
}

// again is how to run a seed once more.
func again(seed uint64) string {
	return fmt.Sprintf("again: go test ./internal/gateway -run '^TestModel$' -count 10 -args -seed %d", seed)
}

// modelStats counts what a model's seeds have lived through.
type modelStats struct {
	writes, partial, stalls, reads, failedReads, breaks, frames, messages, replayed, withheld, closed atomic.Int64
	truncated, reset, overflow                                                                        atomic.Int64
}

// model is one seed's world: a gateway and a hub, all else is the test's.
type model struct {
	t        *testing.T
	gw       *Gateway
	hub      *hub.Hub
	log      *modelLog
	logs     *logText
	stats    *modelStats
	ring     uint64 // messages
	roomy    bool   // it has bytes for them
	flushers int    // that are used
	pauses   bool
	tokens   atomic.Int64 // messages that sockets may still bring
	ears     sync.WaitGroup
	decoded  map[string]*roomcastv1.ServerFrame // by payload; the checkers'

	mu      sync.Mutex
	clients []*modelClient
}

func runModel(t *testing.T, seed uint64, stats *modelStats) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	// A socket that never ends would hold the bubble up for ever: only a panic ends that.
	watchdog := time.AfterFunc(time.Hour, func() { panic("it does not end; " + again(seed)) }) //nolint:forbidigo // as it says
	w := newModel(t, rng, stats)
	defer w.hub.Close()
	defer w.gw.Drain(context.Background(), 0) // also if the test gives up
	var scripts sync.WaitGroup
	steps := 10 + rng.IntN(30)
	logRNG := rand.New(rand.NewPCG(seed, 1))
	scripts.Go(func() { w.live(logRNG, steps) })
	if seed%10 == 0 {
		w.crowd(rng, &scripts, steps)
	} else {
		for range 3 + rng.IntN(6) {
			own := rand.New(rand.NewPCG(rng.Uint64(), 0))
			h := modelHabits[own.IntN(len(modelHabits))]
			scripts.Go(func() {
				for left := steps; left > 0 && own.IntN(4) > 0; left -= steps / 2 {
					if c := w.connect(own, h); c != nil {
						c.script(1 + own.IntN(left))
					}
				}
			})
		}
	}
	scripts.Wait()
	w.finish(rng)
	watchdog.Stop()
	for _, c := range w.clients {
		newChecker(c).run()
	}
	if text := w.logs.String(); text != "" {
		t.Errorf("logged: %s", text)
	}
}

func newModel(t *testing.T, rng *rand.Rand, stats *modelStats) *model {
	t.Helper()
	policies, err := modelPolicies()
	if err != nil {
		t.Fatal(err)
	}
	w := &model{
		t: t, decoded: make(map[string]*roomcastv1.ServerFrame), log: newModelLog(rand.New(rand.NewPCG(rng.Uint64(), 0)), policies, stats), logs: &logText{}, stats: stats,
		ring: []uint64{4, 8, 16, 100}[rng.IntN(4)], flushers: 1 + rng.IntN(2), pauses: rng.IntN(2) == 0,
	}
	ringBytes := []int{2 << 10, 16 << 10, 16 << 20}[rng.IntN(3)]
	w.roomy = ringBytes == 16<<20
	w.tokens.Store(20)
	w.log.opens = rng.IntN(2) == 0
	counters := metrics.New()
	logger := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelError}))
	w.hub = hub.New(hub.Config{
		Policies: policies, Source: w.log, Log: w.log, RingMessages: w.ring,
		RingBytes: ringBytes, PageBytes: []int{1 << 10, 8 << 10, 0}[rng.IntN(3)],
		Metrics: counters, Logger: logger,
	})
	verifier, err := auth.NewVerifier(auth.Config{DevKey: tokenKey()})
	if err != nil {
		t.Fatal(err)
	}
	w.gw, err = New(Config{
		Node: "n1", Version: "v1", Verifier: verifier, Hub: w.hub, NewSequence: func() Sequence { return w.log }, Anonymous: auth.Guest(),
		Policies: policies, Metrics: counters, Logger: logger, Ready: func() bool { return true },
		PingInterval: []time.Duration{0, 2 * time.Second}[rng.IntN(2)],
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// caller is a user who may do everything.
func (w *model) caller(user string) *auth.Caller {
	c := *auth.Guest()
	c.User = user
	return &c
}

// crowd has more sockets in one room than one pass visits at a time, on one flusher.
func (w *model) crowd(rng *rand.Rand, scripts *sync.WaitGroup, steps int) {
	w.flushers = 1
	name := modelRooms[rng.IntN(len(modelRooms))]
	for range 66 + rng.IntN(60) {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		c := w.connect(own, modelHabits[own.IntN(2)])
		scripts.Go(func() { c.belong(name, 2+steps/10) })
	}
	own := rand.New(rand.NewPCG(rng.Uint64(), 0))
	scripts.Go(func() {
		for range steps {
			<-time.After(time.Duration(own.IntN(20)) * time.Millisecond)
			for range own.IntN(6) {
				w.say(name)
			}
		}
	})
}

// live is what befalls the logs.
func (w *model) live(rng *rand.Rand, steps int) {
	l := w.log
	for range steps {
		switch n := rng.IntN(20); {
		case n == 0:
			<-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond)
		case n < 12:
			<-time.After(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		m := l.list[rng.IntN(len(l.list))]
		if n := rng.IntN(100); n < 60 {
			burst := 1 + rng.IntN(12)
			if n < 6 {
				burst = 100
			}
			for range burst {
				w.say(m.name)
			}
		} else if m.policy.Stored() {
			w.befall(m, rng)
		}
	}
}

// befall does something to a stored room's log.
func (w *model) befall(m *modelRoom, rng *rand.Rand) {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	e := m.epoch()
	later := func(most time.Duration, f func()) {
		time.AfterFunc(time.Duration(rng.Int64N(int64(most))), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			f()
		})
	}
	n := len(e.entries)
	switch rng.IntN(11) {
	case 10:
		l.lose(m)
	case 0, 1: // messages come here later than to the log
		m.held = true
		later(time.Second, func() { m.held = false; l.deliver(m) })
	case 2:
		l.unreadable(m)
	case 3, 4:
		if n > 0 {
			l.purge(m, e.first+rng.IntN(n-e.first+1), false)
		}
	case 5:
		l.purge(m, e.first+rng.IntN(n-e.first+1), true)
	case 6:
		if rng.IntN(3) == 0 {
			l.reset(m)
		}
	case 7:
		m.fails = true
		later(8*time.Second, func() { m.fails = false })
	case 8:
		if m.replica < 0 {
			m.slow = 6 * time.Second
			later(3*time.Second, func() { m.slow = 0 })
		}
	case 9: // it catches up before the hub loses its patience
		if m.slow == 0 && time.Now().After(m.lagged) {
			m.replica, m.lagged = max(0, n-rng.IntN(20)), time.Now().Add(3*time.Second)
			later(1500*time.Millisecond, func() { m.replica = -1 })
		}
	}
}

// say publishes something in a room.
func (w *model) say(name room.Name) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.store(w.log.publication(name))
}

// spend takes one of the messages that sockets may bring.
func (w *model) spend() bool { return w.tokens.Add(-1) >= 0 }

// finish ends all trouble. Then everybody who is still served must have everything,
// without another message; then again and again, with news that comes while they are
// served, and nothing after it.
func (w *model) finish(rng *rand.Rand) {
	w.log.heal()
	w.release(func() int { return rng.IntN(2) })
	elapse(8 * time.Second) // for reads that hang, and their retries
	w.mark()
	rounds := 2 + rng.IntN(4)
	for round := range rounds {
		if round == 3 {
			elapse(70 * time.Second) // rings are emptied
		}
		w.release(func() int { return max(0, rng.IntN(12)-9) })
		for _, name := range modelRooms {
			w.say(name)
		}
		elapse(time.Second)
		w.release(func() int { return 0 }) // a ping just now must not bring a message
		elapse(100 * time.Millisecond)     // the gateway's own sockets are read in turns
		w.mark()
	}
	w.gw.Drain(context.Background(), time.Duration(rng.IntN(2))*time.Second)
	for _, c := range w.clients {
		c.hangUp()
	}
	w.ears.Wait()
	w.hub.Close()
	synctest.Wait()
	if n := w.gw.Connections() + w.hub.Rooms(); n != 0 {
		w.t.Errorf("%d sockets and rooms are left", n)
	}
}

// release has sockets take everything, but for a few writes.
func (w *model) release(few func() int) {
	for _, c := range w.clients {
		if c.sock != nil {
			c.sock.release(few(), few())
		}
	}
}

func (w *model) mark() {
	ends := make(map[room.Name]place)
	for _, m := range w.log.list {
		ends[m.name] = place{len(m.epochs) - 1, len(m.epoch().entries)}
	}
	for _, c := range w.clients {
		c.mark(ends)
	}
}

func (s *modelStats) gap(reason room.GapReason) {
	switch reason {
	case room.Truncated:
		s.truncated.Add(1)
	case room.Reset:
		s.reset.Add(1)
	case room.Overflow:
		s.overflow.Add(1)
	}
}

func (s *modelStats) String() string {
	return fmt.Sprintf("%d sockets got %d frames, %d messages (%d replayed), %d withheld, %d TRUNCATED, %d RESET, %d OVERFLOW; "+
		"%d writes, %d taken in part, %d stalls; %d reads of the log, %d failed; %d breaks",
		s.closed.Load(), s.frames.Load(), s.messages.Load(), s.replayed.Load(), s.withheld.Load(),
		s.truncated.Load(), s.reset.Load(), s.overflow.Load(), s.writes.Load(), s.partial.Load(), s.stalls.Load(),
		s.reads.Load(), s.failedReads.Load(), s.breaks.Load())
}
