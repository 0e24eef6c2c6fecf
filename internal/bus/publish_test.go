package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

func TestPublishStores(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	p := &room.Publication{
		Room: "orders:é.", Payload: room.Payload{Kind: room.JSON, Bytes: []byte(`{"n": 1.50}`)},
		Event: "paid", ExcludeUser: "ann", TTL: time.Hour,
	}
	ack, err := b.Publish(t.Context(), p)
	if err != nil || !ack.Stored || ack.Duplicate {
		t.Fatalf("got %+v, %v", ack, err)
	}
	log := nodetest.Log(t, srv.Connect(t), "RC_default")
	if len(log) != 1 {
		t.Fatalf("the log has %d messages, want 1", len(log))
	}
	var r busv1.Record
	if err := proto.Unmarshal(log[0].Data, &r); err != nil {
		t.Fatal(err)
	}
	pos := parse(t, ack.ID)
	if pos.Seq != log[0].Sequence || pos.Check != r.GetCheck() {
		t.Errorf("id %s; the log has sequence %d, check %d", ack.ID, log[0].Sequence, r.GetCheck())
	}
	if string(r.GetJson()) != `{"n": 1.50}` || r.GetEvent() != "paid" || r.GetExcludeUser() != "ann" || r.GetExpires() == 0 {
		t.Errorf("record %v", &r)
	}
	if !strings.HasPrefix(log[0].Subject, "rc.pub.default.") || strings.ContainsAny(log[0].Subject, "*> é") {
		t.Errorf("subject %q", log[0].Subject)
	}
}

func TestDuplicate(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b, other := open(t, srv.URL), open(t, srv.URL)
	first := text("a", "one")
	first.MessageID = "key"
	again := text("a", "two")
	again.MessageID = "key"
	elsewhere := text("b", "three")
	elsewhere.MessageID = "key"
	ack1, err1 := b.Publish(t.Context(), first)
	ack2, err2 := other.Publish(t.Context(), again)
	ack3, err3 := b.Publish(t.Context(), elsewhere)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if ack1.Duplicate || !ack2.Duplicate || ack2.ID != ack1.ID {
		t.Errorf("got %+v, then %+v; want the first id and duplicate", ack1, ack2)
	}
	if ack3.Duplicate || ack3.ID == ack1.ID {
		t.Errorf("the same key in another room: %+v", ack3)
	}
}

func TestEphemeralIsNotStored(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b, other := open(t, srv.URL), open(t, srv.URL)
	e := listen(t, other, "eph:a")
	ack, err := b.Publish(t.Context(), text("eph:a", "hi"))
	if err != nil || ack.Stored || ack.ID == "" {
		t.Fatalf("got %+v, %v", ack, err)
	}
	nodetest.Eventually(t, patience, "the other node hears it", func() bool { return len(e.heard()) == 1 })
	if got := e.heard()[0]; got != ack.ID {
		t.Errorf("heard id %q, want %q", got, ack.ID)
	}
	if _, err := b.Read(t.Context(), "eph:a", room.Position{}, 10); room.AsError(err).Reason != room.ReasonNoHistory {
		t.Errorf("reading its history: %v", err)
	}
}

// The order of a sequence holds although its messages overlap and NATS restarts in
// the middle: what was sent twice is stored once.
func TestSequenceKeepsOrderAcrossRestart(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	const count, rooms = 2000, 3
	q := b.NewSequence()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for i := range count {
		if i == count/2 {
			srv.Stop()
			srv.Start()
		}
		p := text(room.Name(fmt.Sprint("r", i%rooms)), fmt.Sprint(i))
		wg.Add(1)
		q.Publish(ctx, p, func(_ room.Ack, err error) {
			defer wg.Done()
			if err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	last := map[string]int{}
	seen := map[string]bool{}
	for _, msg := range nodetest.Log(t, srv.Connect(t), "RC_default") {
		var r busv1.Record
		if err := proto.Unmarshal(msg.Data, &r); err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscan(r.GetText(), &n); err != nil {
			t.Fatal(err)
		}
		if seen[r.GetText()] || n < last[r.GetRoom()] {
			t.Fatalf("room %s has %d after %d (seen before: %v)", r.GetRoom(), n, last[r.GetRoom()], seen[r.GetText()])
		}
		seen[r.GetText()], last[r.GetRoom()] = true, n
	}
	if len(seen) != count || failed != 0 {
		t.Errorf("%d stored, %d failed of %d", len(seen), failed, count)
	}
}

func TestPublishWithoutBus(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	publish(t, b, "a", "one")
	srv.Stop()
	nodetest.Eventually(t, patience, "the bus is known to be away", func() bool {
		reasons := b.Ready(t.Context())
		return len(reasons) == 1 && strings.Contains(reasons[0], "ctl, live, pub")
	})
	_, err := b.Publish(t.Context(), text("a", "two"))
	if e := room.AsError(err); e.Kind != room.Unavailable || e.RetryAfter == 0 {
		t.Fatalf("got %v, want unavailable with a time to retry", err)
	}
	srv.Start()
	nodetest.Eventually(t, patience, "the bus is back", func() bool { return len(b.Ready(t.Context())) == 0 })
	publish(t, b, "a", "three")
}

// Every attempt is answered "no responders": nothing can be stored, and that is said.
func TestPublishWithoutLeader(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "RC_default"); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "the bus is said to be unavailable", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Publish(ctx, text("a", "x"))
		if err == nil {
			t.Fatal("it is stored, where there is no log")
		}
		return room.AsError(err).Reason == room.ReasonBusUnavailable // unless the last answer was late
	})
}

// A NATS that has stopped answering leaves the outcome open.
func TestPublishToPausedNATS(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartChildNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	publish(t, b, "a", "before")
	nodetest.Eventually(t, patience, "the first arrives", func() bool { return len(e.heard()) == 1 })
	srv.Pause()
	p := text("a", "paused")
	p.MessageID = "key"
	nodetest.Eventually(t, patience, "the outcome is unknown", func() bool { // unless the time was over before it was sent
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Publish(ctx, p)
		got := room.AsError(err)
		return got.Kind == room.Deadline && got.Reason == room.ReasonOutcomeUnknown
	})
	// No shortcut: not even the publishing node's own room hears what is not stored.
	if n := len(e.heard()); n != 1 {
		t.Errorf("the room heard %d messages while NATS stood still, want 1", n)
	}
	srv.Resume()
	again, err := b.Publish(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "it arrives once NATS goes on", func() bool { return len(e.heard()) == 2 })
	if got := e.heard()[1]; got != again.ID {
		t.Errorf("heard %s, published %s", got, again.ID)
	}
}

// The first of two calls with one message id is stored at the leader and by nobody else
// yet. The log refuses the second until that is settled, which is no answer: it is
// asked again until the call's time is over.
func TestDuplicateInProcess(t *testing.T) {
	t.Parallel()
	cluster := nodetest.StartCluster(t)
	b := open(t, cluster.Servers[0].URL, replicated)
	cluster.MoveLeader("RC_default", 0)
	p := text("a", "one")
	p.MessageID = "key"
	for from := 1; from <= 2; from++ {
		cluster.Hold(from, 0, true)
	}
	first := make(chan room.Ack, 1)
	b.NewSequence().Publish(t.Context(), p, func(a room.Ack, err error) {
		if err != nil {
			t.Error(err)
		}
		first <- a
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := b.Publish(ctx, p)
	if e, ok := errors.AsType[*room.Error](err); !ok || e.Kind != room.Unavailable && e.Kind != room.Deadline {
		t.Errorf("while the first is in process: %v, want an error that asks for another try", err)
	}
	cluster.Release()
	again, err := b.Publish(t.Context(), p)
	if ack := <-first; err != nil || ack.ID != again.ID || ack.Duplicate || !again.Duplicate {
		t.Errorf("got %+v, then %+v, %v; want the first id and duplicate", ack, again, err)
	}
}
