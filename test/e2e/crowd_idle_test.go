package e2e

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

var (
	idleNodes   = flag.Int("idle-nodes", 3, "nodes of TestIdleCrowd")
	idleSockets = flag.Int("idle-sockets", 100, "sockets on each node of TestIdleCrowd")
	idleFor     = flag.Duration("idle-for", 2*time.Second, "for how long they are idle between two messages, in 10 parts")
)

// TestIdleCrowd: sockets that say nothing stay, each gets what is published once, and
// while nobody asks or watches the nodes say nothing to each other about presence. What
// the nodes hold and use meanwhile is logged.
//
//	go test -run TestIdleCrowd -v ./test/e2e -idle-sockets 19000 -idle-for 5m
func TestIdleCrowd(t *testing.T) {
	t.Parallel()
	_, bus := startNATS(t)
	nodes, crowds := crowdedNodes(t, bus, *idleNodes, *idleSockets)
	ask := nodes[0].asker(t)
	publish := func(n int) {
		t.Helper()
		began := time.Now()
		if _, err := ask.Publish(bounded(t), &roomcastv1.PublishRequest{
			Room: "all", Payload: &roomcastv1.PublishRequest_Text{Text: crowdMark},
		}); err != nil {
			t.Fatal(err)
		}
		last := began
		for _, c := range crowds {
			if at := c.heard(n); at.After(last) {
				last = at
			}
		}
		t.Logf("message %d: %s from publish to the last delivery", n, last.Sub(began).Round(time.Millisecond/10))
	}
	publish(1)
	listen := listenToBus(t, bus)
	for part := range 10 {
		was := uses(t, nodes)
		<-time.After(*idleFor / 10)
		t.Logf("part %d: %s", part, uses(t, nodes).since(was, *idleSockets))
	}
	said := listen()
	t.Logf("on the bus in %s: %v", *idleFor, said)
	for what, n := range said {
		if strings.HasPrefix(what, "rc.ctl.") && what != "rc.ctl.hb" {
			t.Errorf("%d messages %s while nobody asked", n, what)
		}
	}
	if said["rc.ctl.hb"] == 0 {
		t.Error("no heartbeats were heard, so nothing would have been")
	}
	for _, c := range crowds {
		if strings.Contains(c.output(), "first heard 2") {
			t.Error("a socket got the first message twice")
		}
	}
	publish(2)
	ask.wholes(t, "all", *idleNodes**idleSockets)
}

// crowdedNodes starts nodes with a crowd on each, and logs what the sockets cost.
func crowdedNodes(t testing.TB, bus string, count, sockets int) (nodes []*server, crowds []*crowd) {
	t.Helper()
	for i := range count {
		nodes = append(nodes, serveOn(t, fmt.Sprint("n", i+1), bus))
		crowds = append(crowds, &crowd{Address: nodes[i].HTTP, Room: "all", Few: "thirty", From: i * sockets, Sockets: sockets})
	}
	was := uses(t, nodes)
	gather(t, crowds...)
	t.Logf("%d sockets on each of %d nodes: %s", sockets, count, uses(t, nodes).since(was, sockets))
	return nodes, crowds
}

// used is what nodes have used and hold.
type used struct {
	at  time.Time
	cpu float64   // s, all together
	rss []float64 // bytes, of each
	in  float64   // messages from the bus, all together

	sockets float64 // all together
}

func uses(t testing.TB, nodes []*server) (u used) {
	t.Helper()
	u.at = time.Now()
	for _, s := range nodes {
		u.cpu += s.metric(t, "process_cpu_seconds_total")
		u.rss = append(u.rss, s.metric(t, "process_resident_memory_bytes"))
		u.in += s.metric(t, "roomcast_bus_in_messages_total")
		u.sockets += s.metric(t, "roomcast_connections")
	}
	return u
}

// since says what was used since an earlier look, with so many sockets on each node.
func (u used) since(was used, sockets int) string {
	took := u.at.Sub(was.at).Seconds()
	cpu := u.cpu - was.cpu
	text := fmt.Sprintf("%.1f s, CPU %.2f s (%.2f %% of a processor for 10,000 sockets), %.0f sockets, %.0f messages from the bus, RSS",
		took, cpu, 100*cpu/took/float64(len(u.rss)*sockets)*1e4, u.sockets, u.in-was.in)
	for i, rss := range u.rss {
		text += fmt.Sprintf(" %.1f MB (%+.1f)", rss/1e6, (rss-was.rss[i])/1e6)
	}
	return text
}

// metric reads one figure of a node, which has no labels.
func (s *server) metric(t testing.TB, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + s.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+" ")
	figure, _, _ := strings.Cut(rest, "\n")
	value, err := strconv.ParseFloat(figure, 64)
	if err != nil {
		t.Fatalf("metric %s: %v", name, err)
	}
	return value
}

// listenToBus counts what is said on a NATS server until listen is called: by the first
// three parts of the subject, in which a node's own name is "~".
func listenToBus(t testing.TB, bus string) (listen func() map[string]int) {
	t.Helper()
	nc, err := nats.Connect(bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var mu sync.Mutex
	said := make(map[string]int)
	if _, err := nc.Subscribe(">", func(msg *nats.Msg) {
		parts := strings.Split(msg.Subject, ".")
		for i := range parts {
			if strings.HasPrefix(parts[i], "~") {
				parts[i] = "~"
			}
		}
		if strings.HasPrefix(parts[0], "_INBOX") {
			parts = parts[:1]
		}
		mu.Lock()
		said[strings.Join(parts[:min(3, len(parts))], ".")]++
		mu.Unlock()
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() map[string]int {
		nc.Close()
		mu.Lock()
		defer mu.Unlock()
		return said
	}
}
