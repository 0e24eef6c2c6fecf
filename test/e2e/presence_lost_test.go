package e2e

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

var (
	lostRounds  = flag.Int("lost-rounds", 1, "rounds of TestNodeLost; with more than one it fails if anything came late")
	lostSockets = flag.Int("lost-sockets", 200, "sockets on each node that is lost in TestNodeLost")
)

const (
	mostRepeated  = 3 // rounds; what else is asserted of the next ones does not depend on time
	lostWithin    = 5 * time.Second
	stoppedWithin = time.Second

	// stallLimit is for how long this process may stand still in a round of which
	// something is asserted that depends on time.
	stallLimit = 200 * time.Millisecond

	// heldFor is for how long a node that stands still is there for sure: a lease, and what
	// may have gone of it.
	heldFor = 2 * time.Second
)

// A node that stands still for two seconds has lost nobody, and is named as missing
// meanwhile. One that is killed is gone from every answer, and each of its members leaves
// once. One that is stopped says so itself.
//
//	go test -run TestNodeLost -v ./test/e2e -lost-rounds 20 -lost-sockets 5000
func TestNodeLost(t *testing.T) {
	t.Parallel()
	repeated := 0
	for round := 0; round < *lostRounds; {
		if !t.Run(fmt.Sprint(round+1), func(t *testing.T) {
			w := newLosing(t, *lostSockets)
			w.pauses(t)
			if w.disturbed && repeated < mostRepeated {
				repeated++
				return
			}
			w.kills(t)
			w.stops(t)
			round++
		}) {
			t.Fatalf("%d rounds were good and %d were repeated, as this process stood still", round, repeated)
		}
	}
	t.Logf("%d of %d rounds were good; %d were repeated, as this process stood still", *lostRounds, *lostRounds, repeated)
}

// losing is three nodes, of which the last two get lost with their members.
type losing struct {
	nodes     []*server
	ask       asker // of the first
	watch     *watcher
	sockets   int
	stalls    *stalls
	disturbed bool
}

func newLosing(t *testing.T, sockets int) *losing {
	t.Helper()
	_, bus := startNATS(t)
	w := &losing{sockets: sockets, stalls: watchForStalls(t)}
	for i := range 3 {
		w.nodes = append(w.nodes, serveOn(t, fmt.Sprint("n", i+1), bus))
	}
	w.ask = w.nodes[0].asker(t)
	gather(t,
		&crowd{Address: w.nodes[0].HTTP, Room: "a", Sockets: 1},
		&crowd{Address: w.nodes[1].HTTP, Room: "a", Sockets: sockets, From: 1},
		&crowd{Address: w.nodes[2].HTTP, Room: "a", Sockets: sockets, From: 1 + sockets},
	)
	w.ask.wholes(t, "a", 2*sockets+1)
	w.watch = w.nodes[0].watcher(t, "a")
	nodetest.Eventually(t, patience, "the watch has all", func() bool { return w.watch.size() == 2*sockets+1 })
	return w
}

// pauses stops the third node where it stands, for two seconds.
func (w *losing) pauses(t *testing.T) {
	t.Helper()
	w.stalls.forget()
	began := time.Now()
	w.nodes[2].signal(syscall.SIGSTOP)
	resumed := time.After(2 * time.Second)
	nodetest.Eventually(t, patience, "n3 stands still", func() bool {
		r, err := w.ask.GetRoom(bounded(t), &roomcastv1.GetRoomRequest{Room: "a"})
		return err == nil && !r.GetComplete()
	})
	var asking sync.WaitGroup // at once: a lease is short
	var late atomic.Bool
	for name, call := range map[string]func() ([]string, bool, error){
		"GetRoom": func() ([]string, bool, error) {
			r, err := w.ask.GetRoom(bounded(t), &roomcastv1.GetRoomRequest{Room: "a"})
			return r.GetMissingNodes(), r.GetComplete(), err
		},
		"ListMembers": func() ([]string, bool, error) {
			r, err := w.ask.ListMembers(bounded(t), &roomcastv1.ListMembersRequest{Room: "a"})
			return r.GetMissingNodes(), r.GetComplete(), err
		},
		"receipt": func() ([]string, bool, error) {
			r, err := w.ask.Publish(bounded(t), &roomcastv1.PublishRequest{Room: "a", Receipt: true})
			return r.GetReceipt().GetMissingNodes(), r.GetReceipt().GetComplete(), err
		},
	} {
		asking.Go(func() {
			missing, complete, err := call()
			switch good := err == nil && !complete && slices.Equal(missing, []string{"n3"}); {
			case good:
			case time.Since(began) > heldFor:
				late.Store(true) // it may be taken for lost
			default:
				t.Errorf("%s with n3 standing still: missing %v, complete %t, %v", name, missing, complete, err)
			}
		})
	}
	asking.Wait()
	w.disturbed = late.Load()
	<-resumed
	w.nodes[2].signal(syscall.SIGCONT)
	stood := time.Since(began)
	w.ask.wholes(t, "a", 2*w.sockets+1)
	nodetest.Eventually(t, patience, "all are there again", func() bool { return w.watch.size() == 2*w.sockets+1 })
	if got := w.watch.left(); len(got) > 0 {
		w.disturbed = w.disturbed || w.stalls.longest() > stallLimit || stood > heldFor+stallLimit
		if w.disturbed {
			t.Logf("%d left: n3 stood still for %s, this process for %s", len(got), stood, w.stalls.longest())
			return
		}
		t.Errorf("%d left while a node stood still: %s", len(got), got[0])
	}
}

// kills kills the third node.
func (w *losing) kills(t *testing.T) {
	t.Helper()
	want := append(w.watch.left(), w.leaves(t, "n3", "NODE_LOST")...)
	slices.Sort(want)
	began := time.Now()
	w.nodes[2].kill()
	w.gone(t, "it was killed", began, lostWithin, want)
}

// stops stops the second one.
func (w *losing) stops(t *testing.T) {
	t.Helper()
	want := append(w.watch.left(), w.leaves(t, "n2", "CLOSED")...)
	slices.Sort(want)
	began := time.Now()
	w.nodes[1].stop()
	t.Logf("it drained in %s", time.Since(began).Round(10*time.Millisecond))
	w.gone(t, "it ended", time.Now(), stoppedWithin, want)
}

// gone waits until the members of a node are in no answer, and exactly these have left.
func (w *losing) gone(t *testing.T, since string, began time.Time, within time.Duration, want []string) {
	t.Helper()
	left := 2*w.sockets + 1 - len(want)
	for _, s := range w.nodes {
		if s.running() {
			s.asker(t).wholes(t, "a", left)
		}
	}
	answered := time.Since(began)
	nodetest.Eventually(t, patience, "all have left", func() bool { return w.watch.size() == left })
	told := time.Since(began)
	t.Logf("gone from answers %s after %s, all leaves told after %s", answered.Round(time.Millisecond), since, told.Round(time.Millisecond))
	if late := max(answered, told); late > within && *lostRounds > 1 {
		t.Errorf("%s after %s, want at most %s", late, since, within)
	}
	if diff := cmp.Diff(want, w.watch.left()); diff != "" {
		t.Errorf("leaves (-want +got):\n%s", tail(diff, 2000))
	}
}

// leaves is how the watcher must be told that those leave whom a node has now.
func (w *losing) leaves(t *testing.T, node, reason string) (leaves []string) {
	t.Helper()
	req := &roomcastv1.ListMembersRequest{Room: "a", PageSize: 1000}
	for {
		var page *roomcastv1.ListMembersResponse
		nodetest.Eventually(t, patience, "a complete answer", func() (complete bool) {
			var err error
			page, err = w.ask.ListMembers(bounded(t), req)
			return err == nil && page.GetComplete()
		})
		for _, m := range page.GetMembers() {
			if m.GetNode() == node {
				leaves = append(leaves, m.GetConnection()+" "+reason)
			}
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if len(leaves) != w.sockets {
		t.Fatalf("%s has %d members, want %d", node, len(leaves), w.sockets)
	}
	slices.Sort(leaves)
	return leaves
}

// stalls knows for how long this process has stood still.
type stalls struct{ worst atomic.Int64 }

func watchForStalls(t *testing.T) *stalls {
	t.Helper()
	s := &stalls{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ctx.Err() == nil; last = time.Now() {
			<-tick.C
			s.worst.Store(max(s.worst.Load(), int64(time.Since(last))))
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

func (s *stalls) forget()                { s.worst.Store(0) }
func (s *stalls) longest() time.Duration { return time.Duration(s.worst.Load()) }
