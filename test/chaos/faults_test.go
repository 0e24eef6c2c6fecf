package chaos

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

// breaker carries out a schedule. Each target has a goroutine that takes its steps one
// after the other, so that a step waits for the one before it to be over.
type breaker struct {
	cluster *cluster
	nc      *nats.Conn
	sockets []*socket
	done    map[FaultKind]*atomic.Int64
}

func newBreaker(c *cluster, sockets []*socket) *breaker {
	b := &breaker{cluster: c, nc: c.connect(), sockets: sockets, done: make(map[FaultKind]*atomic.Int64)}
	for _, kind := range Faults() {
		b.done[kind] = &atomic.Int64{}
	}
	return b
}

// run returns when every step is over.
func (b *breaker) run(steps []Step) {
	began := time.Now()
	type target struct {
		node  bool
		which int
	}
	byTarget := make(map[target][]Step)
	var last []Step
	for _, s := range steps {
		if s.Fault == KillAll {
			last = append(last, s)
			continue
		}
		at := target{s.Fault == KillNode || s.Fault == PauseNode, s.Target}
		if s.For == 0 { // it does not keep its target
			at.which = -1
		}
		byTarget[at] = append(byTarget[at], s)
	}
	var wg sync.WaitGroup
	for _, mine := range byTarget {
		wg.Go(func() {
			for _, s := range mine {
				pause(b.cluster.t.Context(), s.At-time.Since(began))
				b.take(s)
				b.done[s.Fault].Add(1)
			}
		})
	}
	wg.Wait()
	for _, s := range last {
		b.take(s)
		b.done[s.Fault].Add(1)
	}
}

func (b *breaker) take(s Step) {
	switch s.Fault {
	case StepDown:
		for _, stream := range streams() {
			_ = b.nc.Publish("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil) // it may have no leader
		}
	case KillServer:
		b.bounce(b.cluster.servers[s.Target].process, s.For)
	case KillNode:
		b.bounce(b.cluster.nodes[s.Target].process, s.For)
	case PauseServer:
		b.freeze(b.cluster.servers[s.Target].process, s.For)
	case PauseNode:
		b.freeze(b.cluster.nodes[s.Target].process, s.For)
	case CutBus:
		for _, p := range b.cluster.nodes[s.Target].proxies {
			p.Cut()
		}
	case CutSockets:
		for i := s.Target; i < len(b.sockets); i += clusterSize {
			b.sockets[i].cut()
		}
	case KillAll:
		all := b.cluster.processes()
		for _, p := range all {
			p.kill()
		}
		pause(b.cluster.t.Context(), s.For)
		for _, p := range all {
			p.start()
		}
	}
}

func (b *breaker) bounce(p *process, down time.Duration) {
	p.kill()
	pause(b.cluster.t.Context(), down)
	p.start()
}

func (b *breaker) freeze(p *process, still time.Duration) {
	p.signal(syscall.SIGSTOP)
	pause(b.cluster.t.Context(), still)
	p.signal(syscall.SIGCONT)
}

// pause waits, or until the test ends: here time is the fault.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
