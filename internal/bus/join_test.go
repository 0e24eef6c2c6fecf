package bus_test

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

var joins = flag.Int("joins", 60, "rooms that TestJoinRace opens")

func replicated(c *bus.Config) { c.Replicas = 3 }

// Rooms are joined while 12 messages each are in flight, from a server that does not
// lead the log. Every join must be complete at once: neither a hole that the next
// message shows nor a tail that only the audit finds. A join that takes a second goes on
// without a barrier, and the audit looks at it: what is slow is done again, and if it
// stays so only what every join must do is looked at. With the 600:
//
//	go test ./internal/bus -run TestJoinRace -v -count 1 -args -joins 600
func TestJoinRace(t *testing.T) {
	t.Parallel()
	cluster := nodetest.StartCluster(t)
	pub := open(t, cluster.Servers[1].URL, replicated)
	cluster.MoveLeader("RC_default", 1)
	cluster.AwaitReplica("RC_default", 0, parse(t, publish(t, pub, "a", "before")).Seq)
	b := open(t, cluster.Servers[0].URL, replicated)
	nodetest.Eventually(t, patience, "the bus knows the leader", func() bool { return len(b.Ready(t.Context())) == 0 })
	for try := range 5 {
		holes, repairs := testutil.ToFloat64(b.metrics.Holes), testutil.ToFloat64(b.metrics.AuditRepairs)
		complete, longest := races(t, b, pub, fmt.Sprint("race", try, "."))
		holes, repairs = testutil.ToFloat64(b.metrics.Holes)-holes, testutil.ToFloat64(b.metrics.AuditRepairs)-repairs
		t.Logf("%d of %d joins are complete, %v holes, %v of them found by the audit; the slowest took %s", complete, *joins, holes, repairs, longest)
		slow := longest >= time.Second
		if complete != *joins || holes != 0 && !slow {
			t.Errorf("%d of %d joins are complete, %v holes; want all and none", complete, *joins, holes)
		}
		if holes == 0 || !slow {
			break
		}
	}
}

// races has twelve at a time race until all rooms have been joined.
func races(t *testing.T, b, pub testBus, prefix string) (complete int, longest time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	const workers = 12
	for w := range workers {
		wg.Go(func() {
			for i := w; i < *joins; i += workers {
				began := time.Now()
				ok := race(t, b, pub, room.Name(fmt.Sprint(prefix, i)), i%12)
				mu.Lock()
				if longest = max(longest, time.Since(began)); ok {
					complete++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return complete, longest
}

// race joins a room after its k-th of 12 messages is stored and reports whether it
// heard all that follow where it was opened.
func race(t *testing.T, b, pub testBus, name room.Name, k int) bool {
	t.Helper()
	q := pub.NewSequence()
	acks := make(chan room.Ack, 12)
	e := &ear{}
	var ids []string
	for i := range 12 {
		q.Publish(t.Context(), text(name, fmt.Sprint(i)), func(a room.Ack, err error) {
			if err != nil {
				t.Error(err)
			}
			acks <- a
		})
	}
	for i := range 12 {
		if i == k {
			defer b.Listen(name, e)()
		}
		ids = append(ids, (<-acks).ID)
	}
	if !e.hears(ids[11]) {
		t.Errorf("%s: the last message is missing", name)
		return false
	}
	head, _ := e.openedAt()
	want := ids[slices.Index(ids, head.String())+1:]
	switch {
	case !slices.Equal(e.heard(), want):
		t.Errorf("%s: opened at %s, heard %v of %v", name, head, e.heard(), ids)
		return false
	case k > 0 && head.Seq < parse(t, ids[k-1]).Seq:
		t.Errorf("%s: opened at %s, but %s was stored before", name, head, ids[k-1])
		return false
	}
	return true
}

// hears waits until a room has come to a message. It may be called from any goroutine.
func (e *ear) hears(id string) bool {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		head, opened := e.openedAt()
		if opened && (head.String() == id || slices.Contains(e.heard(), id)) {
			return true
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			return false
		}
	}
}

// The interest in a room is slow on its way to the leader, whose answers are not. What
// is stored once the room is open must be heard, without the audit. If this takes more
// than a second the bus goes on without it, and says so: then it is tried again.
func TestJoinWaitsForInterest(t *testing.T) {
	t.Parallel()
	cluster := nodetest.StartCluster(t)
	var said journal
	pub, b := open(t, cluster.Servers[1].URL, replicated), open(t, cluster.Servers[0].URL, replicated, logging(&said))
	cluster.MoveLeader("RC_default", 1)
	nodetest.Eventually(t, patience, "the bus knows the leader", func() bool { return len(b.Ready(t.Context())) == 0 })
	for try := 0; ; try++ {
		unsure, holes := said.counts("without a barrier"), testutil.ToFloat64(b.metrics.Holes)
		joinBehindHeldInterest(t, cluster, pub, b, room.Name(fmt.Sprint("a", try)))
		switch holes = testutil.ToFloat64(b.metrics.Holes) - holes; {
		case holes == 0:
			return
		case said.counts("without a barrier") == unsure || try == 10:
			t.Fatalf("%v holes: the room was open before its interest had arrived", holes)
		}
	}
}

// joinBehindHeldInterest joins a room and publishes to it while the interest in it is on
// its way to the second server. It returns when the message is there.
func joinBehindHeldInterest(t *testing.T, cluster *nodetest.Cluster, pub, b testBus, name room.Name) {
	t.Helper()
	publish(t, pub, name, "before")
	cluster.Hold(0, 1, false)
	defer cluster.Release()
	e := &ear{}
	t.Cleanup(b.Listen(name, e))
	nodetest.Eventually(t, patience, "the barrier is on its way, or the room is open", func() bool {
		_, opened := e.openedAt()
		return opened || cluster.Holds("Nats-Expected-Stream") // what no canary has
	})
	id := publish(t, pub, name, "while the interest is on its way")
	cluster.Release()
	nodetest.Eventually(t, patience, "the room is open and has the message", func() bool {
		head, opened := e.openedAt()
		return opened && (head.String() == id || slices.Contains(e.heard(), id))
	})
}

// One of three replicas is behind the leader. A room must not be opened at what that one
// says before it has come to where the leader was. Direct Get asks any of them, so of
// 40 rooms all miss the one with a chance of one in ten million. The bus asks the leader
// through another server, whose route is not held back.
func TestJoinWaitsForReplica(t *testing.T) {
	t.Parallel()
	const rooms = 40
	cluster := nodetest.StartCluster(t)
	pub := open(t, cluster.Servers[1].URL, replicated)
	cluster.MoveLeader("RC_default", 1)
	name := func(i int) room.Name { return room.Name(fmt.Sprint("a", i)) }
	ids := make([]string, rooms)
	for i := range rooms {
		ids[i] = publish(t, pub, name(i), "at every replica")
	}
	cluster.AwaitReplica("RC_default", 0, parse(t, ids[rooms-1]).Seq)
	proxy := nodetest.StartProxy(t, cluster.Servers[0].URL, "none", 1)
	proxy.Divert(cluster.Servers[2].URL) // the first connection is for control
	b := open(t, proxy.URL, replicated)
	nodetest.Eventually(t, patience, "the bus knows the leader", func() bool { return len(b.Ready(t.Context())) == 0 })
	cluster.Isolate(0)
	for i := range rooms {
		before := parse(t, ids[i])
		ids[i] = publish(t, pub, name(i), "not at every replica")
		if ends, err := b.Ends(t.Context(), name(i), before); ends || err != nil {
			t.Errorf("%s ends before its last message: %t, %v", name(i), ends, err)
		}
	}
	reads := testutil.ToFloat64(b.metrics.LogReads)
	for i := range rooms { // one by one: each asks for itself
		if head, _ := listen(t, b, name(i)).openedAt(); head.String() != ids[i] {
			t.Errorf("%s: opened at %s, but %s was stored before", name(i), head, ids[i])
		}
	}
	if n := testutil.ToFloat64(b.metrics.LogReads) - reads; n <= rooms {
		t.Errorf("%v reads for %d rooms: none was answered by the replica that is behind", n, rooms)
	}
}

// Many rooms at once are opened in batches; the read of their last messages does not
// fit into one answer.
func TestJoinMany(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	const rooms = 2500
	body := string(make([]byte, 2000))
	q := b.NewSequence()
	type stored struct {
		name room.Name
		id   string
	}
	acks := make(chan stored, rooms)
	want := map[room.Name]string{}
	for i := range rooms {
		name := room.Name(fmt.Sprint("many", i))
		want[name] = ""
		if i%5 == 0 {
			continue // has no message
		}
		q.Publish(t.Context(), text(name, body), func(a room.Ack, err error) {
			if err != nil {
				t.Error(err)
			}
			acks <- stored{name, a.ID}
		})
	}
	for range rooms - rooms/5 {
		a := <-acks
		want[a.name] = a.id
	}
	ears := map[room.Name]*ear{}
	for name := range want {
		ears[name] = &ear{}
		t.Cleanup(b.Listen(name, ears[name]))
	}
	for name, id := range want {
		nodetest.Eventually(t, patience, string(name)+" is open", func() bool {
			_, opened := ears[name].openedAt()
			return opened
		})
		head, _ := ears[name].openedAt()
		if id == "" && !head.IsWatermark() || id != "" && head.String() != id {
			t.Fatalf("%s is opened at %s, want %q", name, head, id)
		}
	}
}
