package bus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

func TestReadAfter(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	empty, quiet := headOf(t, b, "small:empty"), headOf(t, b, "quiet")
	publish(t, b, "not-quiet", "x")
	var ids []string
	for i := range 6 {
		ids = append(ids, publish(t, b, "small:a", fmt.Sprint(i))) // the log keeps 3 and the anchor
	}
	publish(t, b, "small:other", "x")
	changed := func(id string, change func(*room.Position)) room.Position {
		p := parse(t, id)
		change(&p)
		return p
	}
	tests := map[string]struct {
		room  room.Name
		after room.Position
		gap   room.GapReason
		want  string
	}{
		"oldest":                {"small:a", room.Position{}, "", "3 4 5"},
		"head":                  {"small:a", parse(t, ids[5]), "", ""},
		"one behind":            {"small:a", parse(t, ids[4]), "", "5"},
		"the anchor":            {"small:a", parse(t, ids[2]), "", "3 4 5"},
		"evicted":               {"small:a", parse(t, ids[1]), room.Truncated, "2 3 4 5"},
		"other epoch":           {"small:a", changed(ids[4], func(p *room.Position) { p.Epoch = "zzz" }), room.Reset, ""},
		"other check":           {"small:a", changed(ids[4], func(p *room.Position) { p.Check++ }), room.Reset, ""},
		"above the end":         {"small:a", changed(ids[4], func(p *room.Position) { p.Seq = 1000 }), room.Reset, ""},
		"another room's":        {"small:other", parse(t, ids[4]), room.Truncated, "x"},
		"used again elsewhere":  {"small:other", changed(ids[4], func(p *room.Position) { p.Check++ }), room.Reset, ""},
		"watermark, empty room": {"quiet", quiet, "", ""},
		"watermark, other past": {"quiet", changed(quiet.String(), func(p *room.Position) { p.Moment++ }), room.Reset, ""},
		"watermark, no moment":  {"quiet", changed(quiet.String(), func(p *room.Position) { p.Moment = 0 }), "", ""},
		"watermark, busy rooms": {"small:empty", empty, "", ""}, // others' messages have left the log since
		"watermark, too many":   {"small:a", empty, room.Truncated, "2 3 4 5"},
		"watermark above":       {"small:a", changed(empty.String(), func(p *room.Position) { p.Seq = 1000 }), room.Reset, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := b.Read(t.Context(), test.room, test.after, 10)
			if err != nil {
				t.Fatal(err)
			}
			var bodies []string
			for _, m := range page.Messages {
				bodies = append(bodies, string(m.Payload.Bytes))
			}
			if got := strings.Join(bodies, " "); got != test.want || page.Gap != test.gap || page.More {
				t.Errorf("got %q, gap %q, more %v; want %q, gap %q", got, page.Gap, page.More, test.want, test.gap)
			}
		})
	}
}

func TestReadPages(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	const count = 25
	for i := range count {
		publish(t, b, "a", fmt.Sprint(i))
		publish(t, b, "b", "between")
	}
	var after room.Position
	var got []string
	for pages := 1; ; pages++ {
		page, err := b.Read(t.Context(), "a", after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Messages) > 10 {
			t.Fatalf("a page of %d", len(page.Messages))
		}
		for _, m := range page.Messages {
			got = append(got, string(m.Payload.Bytes))
		}
		after = page.Last
		if !page.More {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	for i := range count {
		if i >= len(got) || got[i] != fmt.Sprint(i) {
			t.Fatalf("read %v", got)
		}
	}
}

// A node that still has the larger history of before must not prove with it.
func TestWatermarkOnNodeWithOldConfiguration(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	old := open(t, srv.URL, func(c *bus.Config) {
		c.Policies = policies(t, func(ns map[string]room.Policy) {
			p := ns["small"]
			p.History.Size = 100
			ns["small"] = p
		})
	})
	b := open(t, srv.URL, func(c *bus.Config) { c.AllowShrink = true }) // small keeps 3 again
	publish(t, b, "small:other", "x")
	watermark := headOf(t, b, "small:a")
	for i := range 20 {
		publish(t, b, "small:a", fmt.Sprint(i))
	}
	for name, node := range map[string]testBus{"old": old, "new": b} {
		page, err := node.Read(t.Context(), "small:a", watermark, 100)
		if err != nil || page.Gap != room.Truncated {
			t.Errorf("%s configuration: gap %q with %d of 20 messages, %v", name, page.Gap, len(page.Messages), err)
		}
	}
}

func TestHistoryLimits(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	sized := func(size int, ttl time.Duration) func(*bus.Config) {
		return func(c *bus.Config) {
			c.Policies = policies(t, func(ns map[string]room.Policy) {
				p := room.DefaultPolicy()
				p.History.Size, p.History.TTL = size, ttl
				ns["default"] = p
			})
		}
	}
	b := open(t, srv.URL, sized(100, time.Hour))
	id := publish(t, b, "a", "one")
	open(t, srv.URL, sized(200, time.Hour)) // larger is applied
	_, err := tryOpen(t, srv.URL, sized(50, time.Hour))
	if err == nil || !strings.Contains(err.Error(), "--allow-shrink") || !strings.Contains(err.Error(), "history.size 200 to 50") {
		t.Fatalf("a smaller history: %v; want an error that names --allow-shrink and the change", err)
	}
	shrunk := open(t, srv.URL, sized(50, time.Hour), func(c *bus.Config) { c.AllowShrink = true })
	page, err := shrunk.Read(t.Context(), "a", parse(t, id), 10)
	if err != nil || page.Gap != "" {
		t.Errorf("a message's position after the limits changed: gap %q, %v", page.Gap, err)
	}
}

// One log hangs, and everything that may be read of it at a time is. Another one is read
// all the same.
func TestHungLogIsAlone(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	publish(t, b, "a", "x")
	nc := srv.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "RC_small")
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.AllowDirect = false
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	asked, err := nc.SubscribeSync("$JS.API.DIRECT.GET.RC_small") // never answered
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var ended atomic.Int64
	for range 100 {
		wg.Go(func() {
			_, _ = b.Read(ctx, "small:a", room.Position{}, 10)
			ended.Add(1)
		})
	}
	nodetest.Eventually(t, patience, "reads hang", func() bool { n, _, _ := asked.Pending(); return n >= 32 })
	if page, err := b.Read(t.Context(), "a", room.Position{}, 10); err != nil || len(page.Messages) != 1 {
		t.Errorf("read %d messages, %v; want 1", len(page.Messages), err)
	}
	if n := ended.Load(); n > 0 {
		t.Errorf("%d reads of the log that hangs have ended before", n)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	first, last := parse(t, publish(t, b, "a", "1")), parse(t, publish(t, b, "a", "2"))
	publish(t, b, "other", "x")
	for after, want := range map[room.Position]bool{first: false, last: true} {
		if ends, err := b.Ends(t.Context(), "a", after); ends != want || err != nil {
			t.Errorf("after %s: %t, %v; want %t", after, ends, err, want)
		}
	}
	if _, err := b.Ends(t.Context(), "eph:a", first); room.AsError(err).Kind != room.Precondition {
		t.Errorf("an ephemeral room: %v", err)
	}
}

// Of the replies to one read NATS loses some on the way, as when a connection breaks and
// is made again meanwhile. What came is no page.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	const n = 250 // replies in a row, so that a hundredth is among them
	srv := nodetest.StartNATS(t)
	pub := open(t, srv.URL)
	var first string
	last := make(map[room.Name]string)
	for i := range n {
		id := publish(t, pub, "a", fmt.Sprint(i))
		if i == 0 {
			first = id
		}
		name := room.Name(fmt.Sprint("of many ", i))
		last[name] = publish(t, pub, name, "x")
	}
	t.Run("page", func(t *testing.T) {
		t.Parallel()
		proxy := nodetest.StartProxy(t, srv.URL, "_INBOX_rc.", 100)
		b := open(t, proxy.URL)
		page, err := b.Read(t.Context(), "a", parse(t, first), n)
		if proxy.Dropped.Load() == 0 {
			t.Fatal("nothing was lost")
		}
		if room.AsError(err).Kind != room.Unavailable {
			t.Fatalf("read %d messages, %v; want that it is to be tried again", len(page.Messages), err)
		}
		proxy.Heal()
		if page, err := b.Read(t.Context(), "a", parse(t, first), n); err != nil || len(page.Messages) != n-1 {
			t.Errorf("read %d messages, %v; want %d", len(page.Messages), err, n-1)
		}
	})
	t.Run("heads", func(t *testing.T) {
		t.Parallel()
		proxy := nodetest.StartProxy(t, srv.URL, "_INBOX_rc.", 100)
		b := open(t, proxy.URL)
		ears := make(map[room.Name]*ear)
		for name := range last {
			ears[name] = &ear{}
			t.Cleanup(b.Listen(name, ears[name]))
		}
		nodetest.Eventually(t, patience, "something is lost", func() bool { return proxy.Dropped.Load() > 0 })
		proxy.Heal()
		for name, e := range ears {
			nodetest.Eventually(t, patience, "it is open", func() bool { _, opened := e.openedAt(); return opened })
			if head, _ := e.openedAt(); head.String() != last[name] {
				t.Errorf("%s is opened at %s, want %s", name, head, last[name])
			}
		}
	})
}
