package bus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// rollback stops NATS, puts a copy of its store back that was made after keep, and
// starts it.
func rollback(t *testing.T, srv *nodetest.NATS, keep, lose func()) {
	t.Helper()
	keep()
	srv.Stop()
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(srv.StoreDir())); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	lose()
	srv.Stop()
	if err := os.RemoveAll(srv.StoreDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(srv.StoreDir(), os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
	srv.Start()
}

// An older copy of the log is put back under two running nodes: they agree on one new
// epoch, every room gets RESET, and no position of before counts any more.
func TestRolledBackLogGetsNewEpoch(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a, b := open(t, srv.URL), open(t, srv.URL)
	ea, eb := listen(t, a, "a"), listen(t, b, "a")
	quiet := listen(t, b, "quiet")
	const gone = 100 // far more than the nodes' own messages until they look at the log
	var kept, lost string
	var watermark room.Position
	rollback(t, srv, func() { kept = publish(t, a, "a", "kept") }, func() {
		nodetest.Eventually(t, patience, "the node is back", func() bool { return len(a.Ready(t.Context())) == 0 })
		for i := range gone {
			lost = publish(t, a, "a", fmt.Sprint("lost", i))
		}
		nodetest.Eventually(t, patience, "both hear it", func() bool {
			return slices.Contains(ea.heard(), lost) && slices.Contains(eb.heard(), lost)
		})
		watermark = room.Position{Epoch: parse(t, lost).Epoch, Seq: parse(t, lost).Seq}
	})
	nodetest.Eventually(t, 2*patience, "every room is told", func() bool {
		a.Ready(t.Context())
		b.Ready(t.Context())
		return slices.Contains(ea.broken(), room.Reset) && slices.Contains(eb.broken(), room.Reset) && slices.Contains(quiet.broken(), room.Reset)
	})
	var id string
	nodetest.Eventually(t, 2*patience, "both nodes have one new epoch", func() bool {
		a.Ready(t.Context())
		b.Ready(t.Context())
		id = publish(t, b, "a", "after")
		other := publish(t, a, "a", "after")
		return parse(t, id).Epoch != parse(t, kept).Epoch && parse(t, id).Epoch == parse(t, other).Epoch
	})
	for i := range 2 * gone { // the sequences are used again, and passed
		publish(t, b, "other", fmt.Sprint(i))
	}
	for name, after := range map[string]room.Position{"kept": parse(t, kept), "lost": parse(t, lost), "watermark": watermark} {
		for _, node := range []testBus{a, b} {
			if page, err := node.Read(t.Context(), "a", after, 10); err != nil || page.Gap != room.Reset {
				t.Errorf("after %s: gap %q, %v; want RESET", name, page.Gap, err)
			}
		}
	}
}

// A server that leads no more tells an end that is too low, now and again: the log is
// what it was, and nobody is told anything.
func TestFalseAlarmsRenewNothing(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	before := parse(t, publish(t, b, "a", "x"))
	for range 3 {
		seen := parse(t, publish(t, b, "a", "x")).Seq
		if err := b.Renew(t.Context(), "default", seen); err != nil {
			t.Fatal(err)
		}
	}
	b.Ready(t.Context())
	after := parse(t, publish(t, b, "a", "y"))
	nodetest.Eventually(t, patience, "all arrive", func() bool { return len(e.heard()) == 5 })
	if n := len(e.broken()); n > 0 || after.Epoch != before.Epoch {
		t.Errorf("the room was told %v, its epoch is %s and was %s", e.broken(), after.Epoch, before.Epoch)
	}
}

// NATS comes back empty.
func TestEmptyLogResets(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	before := publish(t, b, "a", "one")
	nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) == 1 })
	srv.Stop()
	if err := os.RemoveAll(srv.StoreDir()); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	nodetest.Eventually(t, 2*patience, "the room is told", func() bool {
		b.Ready(t.Context())
		return slices.Contains(e.broken(), room.Reset)
	})
	for range 20 {
		publish(t, b, "a", "again")
	}
	if page, err := b.Read(t.Context(), "a", parse(t, before), 10); err != nil || page.Gap != room.Reset {
		t.Errorf("after a position of before: gap %q, %v; want RESET", page.Gap, err)
	}
	nodetest.Eventually(t, patience, "it goes on", func() bool { return len(e.heard()) == 21 })
}

// What is left of the log begins above the watermark: nothing proves that the room had
// no message in between.
func TestWatermarkBelowTheLog(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	watermark := headOf(t, b, "quiet")
	publish(t, b, "a", "x")
	last := parse(t, publish(t, b, "a", "y"))
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "RC_default")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(last.Seq)); err != nil {
		t.Fatal(err)
	}
	if page, err := b.Read(t.Context(), "quiet", watermark, 10); err != nil || page.Gap != room.Truncated {
		t.Errorf("gap %q, %v; want TRUNCATED", page.Gap, err)
	}
}

// The last message of a room leaves the log. Who joins after the next audit gets a
// position that is proven for as long as any.
func TestEmptyRoomStandsAtTheEnd(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "none", 1)
	b := open(t, proxy.URL)
	e := listen(t, b, "a")
	id := publish(t, b, "a", "x")
	nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) == 1 })
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "RC_default")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteMsg(t.Context(), parse(t, id).Seq); err != nil {
		t.Fatal(err)
	}
	other := parse(t, publish(t, b, "other", "y"))
	nodetest.Eventually(t, 2*patience, "the room stands at the end", func() bool {
		head, _ := e.openedAt()
		return head.IsWatermark() && head.Seq >= other.Seq
	})
	head, _ := e.openedAt()
	if page, err := b.Read(t.Context(), "a", head, 10); err != nil || page.Gap != "" {
		t.Errorf("after %s: gap %q, %v", head, page.Gap, err)
	}
	id = publish(t, b, "a", "z")
	nodetest.Eventually(t, patience, "the room goes on", func() bool { return slices.Contains(e.heard(), id) })
}
