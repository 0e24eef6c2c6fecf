package bus_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

func named(name string) func(*bus.Config) { return func(c *bus.Config) { c.Node = name } }

// names lists who a bus believes to be there.
func names(b testBus) string {
	var list []string
	for _, m := range b.Members() {
		list = append(list, m.Node)
	}
	return strings.Join(list, " ")
}

// member is what a bus knows of a node; nothing if it is not there.
func member(b testBus, name string) (found bus.Member) {
	for _, m := range b.Members() {
		if m.Node == name {
			found = m
		}
	}
	return found
}

func eventuallyNames(t *testing.T, b testBus, want string) {
	t.Helper()
	nodetest.Eventually(t, patience, "members "+want, func() bool { return names(b) == want })
}

func TestMembers(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "none", 1)
	a, b := open(t, srv.URL, named("a")), open(t, proxy.URL, named("b"))
	eventuallyNames(t, a, "a b")
	eventuallyNames(t, b, "a b")
	if self := a.Members()[0]; self.Incarnation == "" || time.Since(self.Since) > time.Minute || self.Draining {
		t.Errorf("this node is %+v", self)
	}
	b.SetDraining()
	nodetest.Eventually(t, patience, "b drains", func() bool { return member(a, "b").Draining })
	proxy.Part()
	nodetest.Eventually(t, patience, "the connections are cut", func() bool { return len(b.Ready(t.Context())) > 0 })
	proxy.Join()
	nodetest.Eventually(t, patience, "and come back", func() bool { return len(b.Ready(t.Context())) == 0 })
	eventuallyNames(t, a, "a b")
	eventuallyNames(t, b, "a b")
	first := member(b, "b").Incarnation
	b.Close()
	eventuallyNames(t, a, "a")
	again := open(t, srv.URL, named("b"))
	eventuallyNames(t, a, "a b")
	if got, now := member(a, "b").Incarnation, member(again, "b").Incarnation; now == first || got != "" && got != now {
		t.Errorf("incarnation %q after %q, want that of the new life", got, first)
	}
}

// What other nodes say is taken from the wire, in its order: a new life replaces the old
// one at once, late words of the old one do not bring it back, who says that it leaves is
// gone at once, silence ends the others.
func TestMemberLives(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a := open(t, srv.URL, named("a"))
	nc := srv.Connect(t)
	began := time.Now()
	tell := func(hb *busv1.Heartbeat) {
		t.Helper()
		body, err := proto.Marshal(hb)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Publish("rc.ctl.hb", body); err != nil {
			t.Fatal(err)
		}
	}
	say := func(incarnation string, age time.Duration) {
		t.Helper()
		tell(&busv1.Heartbeat{Node: "x", Incarnation: incarnation, Since: began.Add(-age).UnixNano()})
	}
	becomes := func(incarnation string, age time.Duration) {
		t.Helper()
		nodetest.Eventually(t, patience, "x is "+incarnation, func() bool {
			say(incarnation, age) // again: it is forgotten after a lease
			return member(a, "x").Incarnation == incarnation
		})
	}
	heard := func(mark string) { // all that was said before
		t.Helper()
		nodetest.Eventually(t, patience, mark+" is heard", func() bool {
			tell(&busv1.Heartbeat{Node: mark, Incarnation: "i", Since: began.UnixNano()})
			return member(a, mark).Node != ""
		})
	}
	becomes("old", time.Hour)
	becomes("new", time.Minute)
	said := time.Now()
	say("new", time.Minute)
	say("old", time.Hour)
	say("late", 30*time.Minute) // by its clock older than new
	if err := nc.Publish("rc.ctl.hb", []byte{0xff}); err != nil {
		t.Fatal(err)
	}
	heard("y")
	if got := member(a, "x").Incarnation; got != "new" && time.Since(said) < bus.MemberLease {
		t.Errorf("x is %q after late words, want new", got)
	}
	becomes("newest", time.Second)
	say("newest", time.Second)
	tell(&busv1.Heartbeat{Node: "x", Incarnation: "newest", Since: began.Add(-time.Second).UnixNano(), Leaving: true})
	heard("z")
	if got := member(a, "x").Incarnation; got != "" {
		t.Errorf("x is %q after it has left", got)
	}
	eventuallyNames(t, a, "a")
}

func TestNodesThatDisagree(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a := open(t, srv.URL, named("a"))
	b := open(t, srv.URL, named("b"), func(c *bus.Config) {
		c.Policies = policies(t, func(ns map[string]room.Policy) {
			p := ns["eph"]
			p.Presence = false
			ns["eph"], ns["extra"] = p, room.DefaultPolicy()
			delete(ns, "small")
		})
	})
	says := func(b testBus, want string) {
		t.Helper()
		var got []string
		nodetest.Eventually(t, patience, want, func() bool {
			got = b.Ready(t.Context())
			return slices.Contains(got, want)
		})
	}
	says(a, `node "b" has another configuration: presence of namespace "eph" is false there and true here, it does not have namespace "small", it has namespace "extra"`)
	says(b, `node "a" has another configuration: presence of namespace "eph" is true there and false here, it does not have namespace "extra", it has namespace "small"`)
	b.Close()
	nodetest.Eventually(t, patience, "a is ready alone", func() bool { return len(a.Ready(t.Context())) == 0 })
	open(t, srv.URL, named("a")) // the younger one stays
	says(a, `another process runs as node "a"; names must be unique`)
}

// Who has a NATS of his own has nobody to tell.
func TestAloneIsSilent(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	heard := make(chan *nats.Msg, 1)
	nc := srv.Connect(t)
	if _, err := nc.ChanSubscribe("rc.ctl.>", heard); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b := open(t, "", named("a"), func(c *bus.Config) { c.Embedded = nats.InProcessServer(srv.Server) })
	listen(t, b, "x")
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(heard) > 0 || names(b) != "a" {
		t.Errorf("%d control messages, members %q", len(heard), names(b))
	}
}

// A node that has said that it goes says nothing after it, which would bring it back.
func TestGoodbyeIsLast(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	nc := srv.Connect(t)
	heard, err := nc.SubscribeSync("rc.ctl.hb")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		b := open(t, srv.URL, named("a"))
		stop := make(chan struct{})
		var poking sync.WaitGroup
		poking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					b.Poke()
				}
			}
		})
		b.Close()
		close(stop)
		poking.Wait()
		nodetest.Eventually(t, patience, "NATS has taken in all that it said", func() bool { return srv.Server.NumClients() == 1 })
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		gone := false
		for n, _, _ := heard.Pending(); n > 0; n, _, _ = heard.Pending() {
			msg, err := heard.NextMsg(patience)
			if err != nil {
				t.Fatal(err)
			}
			var hb busv1.Heartbeat
			if err := proto.Unmarshal(msg.Data, &hb); err != nil {
				t.Fatal(err)
			}
			if gone {
				t.Fatalf("life %d: a heartbeat after the last one", i)
			}
			gone = hb.GetLeaving()
		}
		if !gone {
			t.Fatalf("life %d: it did not say that it goes", i)
		}
	}
}
