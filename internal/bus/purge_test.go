package bus_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// purge purges a room and returns how many messages that removed.
func purge(t testing.TB, b testBus, name room.Name) uint64 {
	t.Helper()
	removed, err := b.Purge(t.Context(), name)
	if err != nil {
		t.Fatalf("purge: %v", err)
	}
	return removed
}

// bodies are the texts of messages.
func bodies(messages []*room.Message) string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.Payload.Bytes))
	}
	return strings.Join(all, " ")
}

func TestPurge(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b, other := open(t, srv.URL), open(t, srv.URL)
	listeners := []*ear{listen(t, b, "a"), listen(t, other, "a")}
	before, _ := listeners[0].openedAt() // a watermark
	var ids []string
	for i := range 5 {
		ids = append(ids, publish(t, b, "a", fmt.Sprint(i)))
		publish(t, b, "b", "stays")
	}
	if n := purge(t, b, "a"); n != 5 {
		t.Errorf("%d messages purged, want 5", n)
	}
	if n := purge(t, b, "a"); n != 0 {
		t.Errorf("%d messages purged of an empty room, want 0", n)
	}
	marker := headOf(t, open(t, srv.URL), "a")
	want := append(ids, publish(t, b, "a", "5"), publish(t, b, "a", "6"))
	for i, e := range listeners {
		nodetest.Eventually(t, patience, "all arrive", func() bool { return len(e.heard()) == len(want) })
		if got := e.heard(); !slices.Equal(got, want) {
			t.Errorf("node %d heard %v, want %v", i, got, want)
		}
		if got := e.purged(); len(got) != 2 || got[1] != marker || len(e.broken()) != 0 {
			t.Errorf("node %d: purged at %v, broken %v; want two purges, the last at %v", i, got, e.broken(), marker)
		}
	}
	if n := testutil.ToFloat64(b.metrics.Holes) - testutil.ToFloat64(b.metrics.AuditRepairs); n != 0 {
		t.Errorf("%v holes: the marker is what comes before the next message", n)
	}
	tests := map[string]struct {
		room  room.Name
		after room.Position
		gap   room.GapReason
		want  string
	}{
		"oldest":              {"a", room.Position{}, "", "5 6"},
		"before the purge":    {"a", parse(t, ids[1]), room.Truncated, "5 6"},
		"just before":         {"a", parse(t, ids[4]), room.Truncated, "5 6"},
		"watermark before it": {"a", before, room.Truncated, "5 6"},
		"the marker":          {"a", marker, "", "5 6"},
		"after it":            {"a", parse(t, want[5]), "", "6"},
		"another room":        {"b", room.Position{}, "", "stays stays stays stays stays"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := b.Read(t.Context(), test.room, test.after, 10)
			if err != nil {
				t.Fatal(err)
			}
			if got := bodies(page.Messages); got != test.want || page.Gap != test.gap || page.More {
				t.Errorf("got %q, gap %q, more %v; want %q, gap %q", got, page.Gap, page.More, test.want, test.gap)
			}
		})
	}
}

// A marker is no message of a page, and pages around it go on.
func TestPagesAcrossPurge(t *testing.T) {
	t.Parallel()
	b := open(t, nodetest.StartNATS(t).URL)
	publish(t, b, "small:a", "gone")
	purge(t, b, "small:a")
	for count := range 5 { // with 3 the log is full, with 4 the marker has left it
		var got []string
		var after room.Position
		for {
			page, err := b.Read(t.Context(), "small:a", after, 1)
			if err != nil || page.Gap != "" {
				t.Fatalf("gap %q, %v", page.Gap, err)
			}
			for _, m := range page.Messages {
				got = append(got, string(m.Payload.Bytes))
			}
			if !page.More {
				break
			}
			after = page.Last
		}
		var want []string
		for i := max(0, count-3); i < count; i++ {
			want = append(want, fmt.Sprint(i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d messages: listed %v, want %v", count, got, want)
		}
		publish(t, b, "small:a", fmt.Sprint(count))
	}
}

// A watermark from before a purge stays unproven when the marker has left the log: too
// many messages have followed for a room that had them all.
func TestWatermarkBeforeForgottenPurge(t *testing.T) {
	t.Parallel()
	b := open(t, nodetest.StartNATS(t).URL)
	publish(t, b, "small:other", "keeps the stream's beginning")
	watermark := headOf(t, b, "small:a")
	publish(t, b, "small:a", "purged unseen")
	purge(t, b, "small:a")
	for i := range 6 {
		page, err := b.Read(t.Context(), "small:a", watermark, 10)
		if err != nil || page.Gap != room.Truncated {
			t.Errorf("with %d messages after the purge: gap %q, %v", i, page.Gap, err)
		}
		publish(t, b, "small:a", fmt.Sprint(i))
	}
}

// Of messages and a marker, one in a few is lost on the way to a node. It hears of the
// purge once all the same, and of what followed. No canary is lost, nor counts.
func TestPurgeIsHeardAcrossHoles(t *testing.T) {
	t.Parallel()
	tests := map[string]int{"the marker is lost": 3, "the message before it is lost": 2}
	for name, every := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := nodetest.StartNATS(t)
			b, pub := open(t, nodetest.StartProxy(t, srv.URL, "rc.live.2c.", every).URL), open(t, srv.URL)
			e := listen(t, b, "a")
			publish(t, pub, "a", "0")
			publish(t, pub, "a", "1")
			purge(t, pub, "a")
			want := []string{publish(t, pub, "a", "2"), publish(t, pub, "a", "3")}
			arrived := func() bool { h := e.heard(); return len(h) >= 2 && slices.Equal(h[len(h)-2:], want) }
			nodetest.Eventually(t, patience, "what followed arrives", arrived)
			if len(e.purged()) != 1 || len(e.broken()) != 0 {
				t.Errorf("purged %v, broken %v; want one purge and nothing else", e.purged(), e.broken())
			}
		})
	}
}

// A room without a log has nothing to purge.
func TestPurgeEphemeralRoom(t *testing.T) {
	t.Parallel()
	b := open(t, nodetest.StartNATS(t).URL)
	_, err := b.Purge(t.Context(), "eph:a")
	if e := room.AsError(err); e.Kind != room.Precondition || e.Reason != room.ReasonNoHistory {
		t.Errorf("got %v, want NO_HISTORY", err)
	}
}

// A purge after which a message id comes again: the log remembers it.
func TestDuplicateOfPurgedMessage(t *testing.T) {
	t.Parallel()
	b := open(t, nodetest.StartNATS(t).URL)
	p := text("a", "x")
	p.MessageID = "once"
	first, err := b.Publish(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	purge(t, b, "a")
	again, err := b.Publish(t.Context(), p)
	if err != nil || !again.Duplicate || parse(t, again.ID).Seq != parse(t, first.ID).Seq {
		t.Errorf("got %+v, %v; want a duplicate of %s", again, err, first.ID)
	}
}
