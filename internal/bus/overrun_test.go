package bus_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// gate is a room that holds its whole shard back, against the rule, until it opens.
type gate struct {
	ear
	open chan struct{}
}

func (g *gate) Append(m *room.Message) {
	<-g.open
	g.ear.Append(m)
}

// A shard stands still until NATS's client drops messages of its rooms. What was
// dropped is read from the log, also the last message of a room that is quiet after.
func TestOverrunIsFilled(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	long := func(c *bus.Config) {
		c.Policies = policies(t, func(ns map[string]room.Policy) {
			p := room.DefaultPolicy()
			p.History.Size = 100_000
			ns["default"] = p
		})
	}
	b, pub := open(t, srv.URL, long), open(t, srv.URL, long)
	g := &gate{open: make(chan struct{})}
	letGo := sync.OnceFunc(func() { close(g.open) })
	t.Cleanup(letGo)
	t.Cleanup(b.Listen("gate", g))
	g.awaitOpened(t, "gate")
	ears := map[room.Name]*ear{}
	for i := range 12 { // some are in the gate's shard
		name := room.Name(fmt.Sprint("quiet", i))
		ears[name] = listen(t, b, name)
	}
	const publishers, each = 64, 290 // more than a shard's channel holds
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for range each {
				publish(t, pub, "gate", "x")
			}
		})
	}
	wg.Wait()
	last := map[room.Name]string{}
	for name := range ears {
		last[name] = publish(t, pub, name, "last")
	}
	nodetest.Eventually(t, patience, "more has come than a channel holds", func() bool {
		return testutil.ToFloat64(b.metrics.BusInMessages) > publishers*each
	})
	letGo()
	for name, e := range ears {
		nodetest.Eventually(t, 2*patience, string(name)+" hears its message", func() bool { return slices.Equal(e.heard(), []string{last[name]}) })
	}
	nodetest.Eventually(t, 2*patience, "the gate hears all", func() bool { return len(g.heard()) == publishers*each })
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.IsSortedFunc(g.msgs, func(a, b *room.Message) int { return int(a.Position.Seq) - int(b.Position.Seq) }) {
		t.Error("out of order")
	}
	if dropped := testutil.ToFloat64(b.metrics.BusDropped); dropped == 0 || len(g.breaks) != 0 {
		t.Errorf("%v dropped, %d breaks; want some and none", dropped, len(g.breaks))
	}
}
