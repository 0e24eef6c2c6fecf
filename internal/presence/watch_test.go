package presence

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/room"
)

// inCluster runs a test in virtual time with nodes a, b and c, of which a watches the
// room.
func inCluster(t *testing.T, test func(t *testing.T, c *cluster, told *log, want func(...string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		told := &log{}
		watch := c.nodes[0].Watch("room", told.tell)
		defer watch.Stop()
		want := func(events ...string) {
			t.Helper()
			synctest.Wait()
			got := told.take()
			slices.Sort(events) // those of several nodes, and of a snapshot, come in any order
			slices.Sort(got)
			if diff := cmp.Diff(events, got); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		}
		want("[]")
		test(t, c, told, want)
	})
}

// pass lets time pass. synctest makes it virtual.
func pass(d time.Duration) { <-time.After(d); synctest.Wait() }

func TestDeltas(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, _ *log, want func(...string)) {
		first := c.nodes[1].enter("room", "b1")
		want("+b1")
		c.nodes[0].enter("room", "a1")
		c.nodes[2].enter("other", "c1")
		want("+a1")
		first.Leave()
		want("-b1 UNSUBSCRIBED")
		c.nodes[1].enter("room", "b2").Close()
		want("+b2", "-b2 CLOSED")
		pass(time.Minute) // nothing else is told
		want()
		c.nodes[2].enter("room", "c2")
		want("+c2")
	})
}

// What gets lost between nodes shows by the hole, or by the count at the next renewal.
func TestLostDeltas(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, _ *log, want func(...string)) {
		gone := c.nodes[1].enter("room", "b1")
		want("+b1")
		c.change(func() { c.lose = func(from string) bool { return from == "b" } })
		gone.Leave()
		c.nodes[1].enter("room", "b2")
		want()
		c.change(func() { c.lose = nil })
		c.nodes[1].enter("room", "b3") // shows the hole
		want()
		pass(lookEvery)
		want("-b1 CLOSED", "+b2", "+b3")

		c.change(func() { c.lose = func(string) bool { return true } })
		c.nodes[1].enter("room", "b4") // nothing follows it
		want()
		c.change(func() { c.lose = nil })
		pass((renewEvery + 1) * lookEvery)
		want("+b4")
	})
}

func TestLostNode(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, _ *log, want func(...string)) {
		b := c.nodes[1]
		b.enter("room", "b1")
		c.nodes[2].enter("room", "c1")
		want("+b1", "+c1")
		c.change(func() { b.gone = true })
		pass(2 * lookEvery)
		want("-b1 NODE_LOST")
		b.enter("room", "b2")
		pass(time.Minute)
		want()
		c.change(func() { b.gone = false }) // the same life, as after a cut
		pass(lookEvery)
		want("+b1", "+b2")

		// Another life under the same name: whoever was there before is lost.
		c.change(func() { b.node.Incarnation = "second of b" })
		pass(lookEvery)
		want("-b1 NODE_LOST", "-b2 NODE_LOST", "+b1", "+b2")

		// A node that is there and does not answer has lost nobody.
		c.change(func() { b.silent = true })
		pass(time.Minute)
		want()
	})
}

// A node that stops says who leaves, and that it goes: which of the two is heard first is
// chance.
func TestStoppedNode(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, _ *log, want func(...string)) {
		last := c.nodes[1].enter("room", "b1")
		want("+b1")
		c.change(func() { c.nodes[1].left = true })
		pass(lookEvery)
		last.Close()
		want("-b1 CLOSED")
		pass(time.Minute)
		want()
	})
}

// What a node has still to tell when it stops follows what it is just telling.
func TestStoppedNodeTellsInOrder(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, _ *log, want func(...string)) {
		b := c.nodes[1]
		first := b.enter("room", "b1")
		want("+b1")
		held := make(chan struct{})
		c.change(func() {
			c.telling = func() {
				c.change(func() { c.telling = nil })
				<-held
			}
		})
		b.enter("room", "b2")
		synctest.Wait()
		first.Close()
		go b.Close()
		pass(2 * renewEvery * lookEvery) // it answers that it tells nothing any more
		want()
		close(held)
		want("+b2", "-b1 CLOSED")
	})
}

// A node that is started again while it is asked answers for its new life.
func TestAnotherLifeAnswers(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, _ *log, want func(...string)) {
		b := c.nodes[1]
		b.enter("room", "b1")
		want("+b1")
		c.change(func() {
			b.node.Incarnation = "second of b"
			c.asking = func(string) { b.node.Incarnation, c.asking = "third of b", nil }
		})
		pass(4 * lookEvery)
		want("-b1 NODE_LOST", "+b1")
	})
}

// Who answers at last does not make up for those that nobody knows of.
func TestSnapshotOfWhoIsYoung(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		c.young, c.nodes[1].silent = true, true
		w := c.nodes[0].Watch("room", (&log{}).tell)
		defer w.Stop()
		synctest.Wait()
		c.change(func() { c.nodes[1].silent = false })
		pass(lookEvery)
		var told log
		again := c.nodes[0].Watch("room", told.tell)
		defer again.Stop()
		if diff := cmp.Diff([]string{"[] without []"}, told.take()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// NATS does not take a question about all the rooms that a node may watch.
func TestManyRooms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		const rooms = 3000
		name := func(i int) room.Name { return room.Name(fmt.Sprintf("%0200d", i)) }
		told := make([]log, rooms)
		for i := range rooms {
			w := c.nodes[0].Watch(name(i), told[i].tell)
			defer w.Stop()
		}
		pass(leaseTime + leaseSweep)
		c.change(func() { c.nodes[1].node.Incarnation = "second of b" })
		pass(leaseTime + leaseSweep)
		for i := range rooms {
			c.nodes[1].enter(name(i), "b")
		}
		synctest.Wait()
		for i := range rooms {
			if diff := cmp.Diff([]string{"[]", "+b"}, told[i].take()); diff != "" {
				t.Fatalf("told (-want +got):\n%s", diff)
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.largest > 300<<10 {
			t.Errorf("a question has %d bytes", c.largest)
		}
	})
}

func TestSnapshotSaysWhoIsMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		c.nodes[0].enter("room", "a1")
		c.nodes[1].enter("room", "b1")
		c.nodes[1].silent = true
		var told log
		w := c.nodes[0].Watch("room", told.tell)
		defer w.Stop()
		synctest.Wait()
		if diff := cmp.Diff([]string{"[a1] without [b]"}, told.take()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		c.change(func() { c.nodes[1].silent = false })
		pass((renewEvery + 1) * lookEvery)
		if diff := cmp.Diff([]string{"+b1"}, told.take()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		var second log
		again := c.nodes[0].Watch("room", second.tell)
		defer again.Stop()
		if diff := cmp.Diff([]string{"[a1 b1]"}, second.take()); diff != "" {
			t.Errorf("the second is told (-want +got):\n%s", diff)
		}
	})
}

// Who does not take an event gets a snapshot once it does, and no backlog.
func TestSlowListener(t *testing.T) {
	t.Parallel()
	inCluster(t, func(_ *testing.T, c *cluster, told *log, want func(...string)) {
		var other log
		w := c.nodes[0].Watch("room", other.tell)
		defer w.Stop()
		told.fill(true)
		c.nodes[1].enter("room", "b1")
		c.nodes[1].enter("room", "b2").Leave()
		pass(time.Minute)
		want()
		if got := other.take(); len(got) != 4 {
			t.Errorf("the other is told %v", got)
		}
		told.fill(false)
		pass(lookEvery)
		want("[b1]")
		c.nodes[1].enter("room", "b3")
		want("+b3")
	})
}

// Above 500 members, who listens briefly is told how many at most once a second.
func TestLargeRoom(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster, full *log, _ func(...string)) {
		t.Helper()
		var brief log
		w := c.nodes[0].WatchBriefly("room", brief.tell)
		defer w.Stop()
		brief.take()
		var leave []func()
		for i := range BriefMembers + 1 {
			leave = append(leave, c.nodes[i%3].enter("room", fmt.Sprint("s", i)).Leave)
		}
		synctest.Wait()
		if got := brief.take(); len(got) != BriefMembers || got[0][0] != '+' {
			t.Errorf("told %d times up to the bound, last %q", len(got), got[len(got)-1])
		}
		if got := full.take(); len(got) != BriefMembers+1 {
			t.Errorf("who listens to all is told %d times", len(got))
		}
		pass(time.Second)
		if diff := cmp.Diff([]string{"=501"}, brief.take()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		var late log
		second := c.nodes[0].WatchBriefly("room", late.tell)
		defer second.Stop()
		if diff := cmp.Diff([]string{"[500 of 501]"}, late.take()); diff != "" {
			t.Errorf("who comes late is told (-want +got):\n%s", diff)
		}
		for range 40 { // 4 seconds of coming and going
			c.nodes[1].enter("room", "more").Leave()
			pass(100 * time.Millisecond)
		}
		if got := brief.take(); len(got) < 3 || len(got) > 5 || slices.Compact(got)[0] != "=501" {
			t.Errorf("told %v in four seconds", got)
		}
		leave[0]()
		leave[1]()
		pass(2 * occupancyEvery)
		if diff := cmp.Diff([]string{"[499 of 499]"}, brief.take()); diff != "" {
			t.Errorf("once it is small (-want +got):\n%s", diff)
		}
		leave[2]()
		synctest.Wait()
		if diff := cmp.Diff([]string{"-s2 UNSUBSCRIBED"}, brief.take()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// However many listen, nodes tell once; and nothing once nobody does.
func TestTraffic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		traffic := func() (asks, tells int) {
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			asks, tells = c.asks, c.tells
			c.asks, c.tells = 0, 0
			return asks, tells
		}
		c.nodes[1].enter("room", "b1")
		pass(time.Minute)
		if asks, tells := traffic(); asks+tells != 0 {
			t.Errorf("%d questions and %d messages while nobody watches", asks, tells)
		}
		var watches []*Watch
		for range 100 {
			watches = append(watches, c.nodes[0].Watch("room", (&log{}).tell))
		}
		c.nodes[1].enter("room", "b2")
		if asks, tells := traffic(); asks != 1 || tells > 1 {
			t.Errorf("%d questions and %d messages for one join, want 1 and at most 1", asks, tells)
		}
		pass(renewEvery * lookEvery)
		if asks, _ := traffic(); asks != 1 {
			t.Errorf("%d questions in the time of one renewal", asks)
		}
		for _, w := range watches {
			w.Stop()
			w.Stop()
		}
		pass(leaseTime + leaseSweep)
		traffic()
		c.nodes[1].enter("room", "b3")
		pass(time.Minute)
		if asks, tells := traffic(); asks+tells != 0 {
			t.Errorf("%d questions and %d messages after the watch", asks, tells)
		}
	})
}

// Answers of any size go in parts that the bus takes.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		const sockets = 13_000
		for i := range sockets {
			c.nodes[i%2].enter("room", fmt.Sprintf("connection %6d", i))
		}
		count := c.nodes[0].Count(t.Context(), "room")
		if count.Connections != sockets || count.Users != sockets || !count.Complete {
			t.Errorf("counted %+v", count)
		}
		rooms := c.nodes[0].Rooms(t.Context(), RoomsQuery{Patterns: []string{"r*"}, Limit: 10})
		if len(rooms.Rooms) != 1 || rooms.Rooms[0].Users != sockets || rooms.More {
			t.Errorf("rooms %+v", rooms.Rooms)
		}
		if rooms = c.nodes[0].Rooms(t.Context(), RoomsQuery{Patterns: []string{"q*", "roo"}, Limit: 10}); len(rooms.Rooms) != 0 {
			t.Errorf("rooms that may not be seen: %+v", rooms.Rooms)
		}
		var after room.Member
		seen := 0
		for {
			page := c.nodes[1].Members(t.Context(), "room", after, 3000)
			seen += len(page.Members)
			if !page.More {
				break
			}
			after = page.Members[len(page.Members)-1]
		}
		if seen != sockets {
			t.Errorf("pages have %d members in all, want %d", seen, sockets)
		}
		var told log
		w := c.nodes[1].Watch("room", told.tell)
		defer w.Stop()
		synctest.Wait()
		if diff := cmp.Diff([]string{"[13000 of 13000]"}, told.take()); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.largest > 64<<10 {
			t.Errorf("a part has %d bytes, more than the bus takes", c.largest)
		}
	})
}
