package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

var presenceSeed = flag.Uint64("presence-seed", 0, "seed of the presence test; 0 draws one")

// truth is what the test itself has done: which sockets are in which room, on nodes of
// which state.
type truth struct {
	t       *testing.T
	random  *rand.Rand
	nats    string
	proxies []*nodetest.Proxy
	nodes   []*truthNode
	watch   *watcher // of the first room, on the first node, which is never hurt
	faults  map[string]int
	judged  map[string]int // answers, by what they said
}

type truthNode struct {
	*server
	asker
	sockets map[*member]map[string]bool // and their rooms
	hurt    bool                        // paused or cut off: others may, and after 3.5 s must, take it for gone
}

func truthRooms() []string { return []string{"a", "b", "c"} }

// bounds is how many connections of a room an answer may count: those on hurt nodes may
// be missing.
func (w *truth) bounds(name string) (least, most int) {
	for _, n := range w.nodes {
		for _, rooms := range n.sockets {
			if rooms[name] {
				most++
				if !n.hurt {
					least++
				}
			}
		}
	}
	return least, most
}

// members are the connections of a room, sorted.
func (w *truth) members(name string) []string {
	list := []string{}
	for _, n := range w.nodes {
		for m, rooms := range n.sockets {
			if rooms[name] {
				list = append(list, m.connection)
			}
		}
	}
	slices.Sort(list)
	return list
}

// well picks a node that nothing happens to.
func (w *truth) well() *truthNode {
	for {
		if n := w.nodes[w.random.IntN(len(w.nodes))]; !n.hurt {
			return n
		}
	}
}

// step does one thing to a socket: come, subscribe, unsubscribe, go.
func (w *truth) step() {
	n := w.well()
	name := truthRooms()[w.random.IntN(3)]
	sockets := slices.SortedFunc(maps.Keys(n.sockets), func(a, b *member) int { return int(a.number) - int(b.number) })
	if len(sockets) < 4 || w.random.IntN(8) == 0 {
		m := n.member(w.t)
		m.number = w.random.Uint32N(1 << 30)
		n.sockets[m] = make(map[string]bool)
		return
	}
	m := sockets[w.random.IntN(len(sockets))]
	switch rooms := n.sockets[m]; {
	case w.random.IntN(12) == 0:
		w.close(n, m)
	case rooms[name]:
		m.ask("unsubscribe", name)
		delete(rooms, name)
	default:
		m.ask("subscribe", name)
		rooms[name] = true
	}
}

// close closes a socket and waits until its node has noticed: the truth has no other
// way to know when.
func (w *truth) close(n *truthNode, m *member) {
	_ = m.conn.Close()
	delete(n.sockets, m)
	nodetest.Eventually(w.t, patience, "the node notices", func() bool {
		resp, err := n.GetUser(bounded(w.t), &roomcastv1.GetUserRequest{User: "guest"})
		return err == nil && !slices.ContainsFunc(resp.GetConnections(), func(c *roomcastv1.UserConnection) bool {
			return c.GetConnection() == m.connection
		})
	})
}

// judge asks a node, perhaps a hurt one that can answer, by one of three ways. A
// complete answer must be right.
func (w *truth) judge(n *truthNode) {
	name := truthRooms()[w.random.IntN(3)]
	var connections uint32
	var complete bool
	var err error
	how := ""
	switch w.random.IntN(3) {
	case 0:
		var r *roomcastv1.GetRoomResponse
		r, err = n.GetRoom(bounded(w.t), &roomcastv1.GetRoomRequest{Room: name})
		how, connections, complete = "GetRoom", r.GetConnections(), r.GetComplete()
	case 1:
		var r *roomcastv1.ListMembersResponse
		r, err = n.ListMembers(bounded(w.t), &roomcastv1.ListMembersRequest{Room: name, PageSize: 1000})
		how, connections, complete = "ListMembers", uint32(len(r.GetMembers())), r.GetComplete()
	case 2:
		if n.hurt {
			return // it cannot publish
		}
		var r *roomcastv1.PublishResponse
		r, err = n.Publish(bounded(w.t), &roomcastv1.PublishRequest{Room: name, Receipt: true})
		how, connections, complete = "receipt", r.GetReceipt().GetConnections(), r.GetReceipt().GetComplete()
	}
	if err != nil {
		w.t.Fatalf("%s of %s: %v", how, n.Node, err)
	}
	w.judged[fmt.Sprintf("%s complete=%t", how, complete)]++
	least, most := w.bounds(name)
	if complete && (int(connections) < least || int(connections) > most) {
		w.t.Errorf("%s of %s says that room %s has %d connections, and that this is complete; it has %d to %d",
			how, n.Node, name, connections, least, most)
	}
}

// fault hurts a node for a while, does other things meanwhile, and heals it.
func (w *truth) fault() {
	i := 1 + w.random.IntN(len(w.nodes)-1)
	n := w.nodes[i]
	lasts := time.Duration(w.random.IntN(5000)) * time.Millisecond // lost after 3.5 s
	kind := []string{"kill", "pause", "cut"}[w.random.IntN(3)]
	w.faults[kind]++
	w.t.Logf("%s %s for %s", kind, n.Node, lasts)
	over := time.After(lasts)
	switch kind {
	case "kill":
		n.kill()
		n.sockets = make(map[*member]map[string]bool)
		n.hurt = true // nothing more is asked of it
	case "pause":
		n.hurt = true
		n.signal(syscall.SIGSTOP)
	case "cut":
		n.hurt = true
		w.proxies[i].Part()
	}
	for done := false; !done; {
		select {
		case <-over:
			done = true
		default:
			w.step()
			w.judge(w.well())
			if kind == "cut" {
				w.judge(n)
			}
		}
	}
	switch kind {
	case "kill":
		w.nodes[i] = w.start(i)
	case "pause":
		n.signal(syscall.SIGCONT)
	case "cut":
		w.proxies[i].Join()
	}
	w.nodes[i].hurt = false
}

func (w *truth) start(i int) *truthNode {
	s := serveOn(w.t, fmt.Sprint("n", i+1), w.proxies[i].URL)
	return &truthNode{server: s, asker: s.asker(w.t), sockets: make(map[*member]map[string]bool)}
}

// settle waits until every node's answers are complete and right, and the watch too.
func (w *truth) settle() {
	w.t.Helper()
	for _, name := range truthRooms() {
		want := w.members(name)
		for _, n := range w.nodes {
			n.wholes(w.t, name, len(want))
			var members *roomcastv1.ListMembersResponse
			w.complete("members", n, func() (complete bool, err error) {
				members, err = n.ListMembers(bounded(w.t), &roomcastv1.ListMembersRequest{Room: name, PageSize: 1000})
				return members.GetComplete(), err
			})
			got := []string{}
			for _, m := range members.GetMembers() {
				got = append(got, m.GetConnection())
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				w.t.Fatalf("members of %s by %s (-want +got):\n%s", name, n.Node, diff)
			}
			var published *roomcastv1.PublishResponse
			w.complete("receipt", n, func() (complete bool, err error) {
				published, err = n.Publish(bounded(w.t), &roomcastv1.PublishRequest{Room: name, Receipt: true})
				return published.GetReceipt().GetComplete(), err
			})
			if count := published.GetReceipt().GetConnections(); int(count) != len(want) {
				w.t.Fatalf("receipt in %s by %s counts %d, want %d", name, n.Node, count, len(want))
			}
		}
	}
	want := w.members("a")
	defer func() {
		if w.t.Failed() {
			w.t.Logf("the watch differs (-want +got):\n%s", cmp.Diff(want, w.watch.members()))
		}
	}()
	nodetest.Eventually(w.t, patience, "the watch is right", func() bool { return slices.Equal(want, w.watch.members()) })
}

// complete waits for a node's complete answer: one that took too long is none.
func (w *truth) complete(what string, n *truthNode, call func() (complete bool, err error)) {
	w.t.Helper()
	nodetest.Eventually(w.t, patience, fmt.Sprintf("%s by %s complete", what, n.Node), func() bool {
		complete, err := call()
		if err != nil {
			w.t.Fatalf("%s by %s: %v", what, n.Node, err)
		}
		return complete
	})
}

// Presence, receipts and a watch against the truth, while sockets come and go and nodes
// are killed, paused and cut off from NATS: an answer is right, or says that it is not
// complete.
func TestPresenceIsTrue(t *testing.T) {
	t.Parallel()
	seed := *presenceSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-presence-seed %d", seed)
	_, nats := startNATS(t)
	w := &truth{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), nats: nats,
		faults: make(map[string]int), judged: make(map[string]int),
	}
	for i := range 3 {
		w.proxies = append(w.proxies, nodetest.StartProxy(t, nats, "nothing", 1))
		w.nodes = append(w.nodes, w.start(i))
	}
	w.nodes[0].wholes(t, "a", 0)
	w.watch = w.nodes[0].watcher(t, "a")
	for range 3 {
		for range 30 {
			w.step()
			w.judge(w.well())
		}
		w.fault()
		w.settle()
	}
	t.Logf("faults %v, answers %v", w.faults, w.judged)
	if len(w.judged) == 0 {
		t.Error("nothing was judged")
	}
}
