package bus_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

func TestTwoNodesHearEachOther(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b1, b2 := open(t, srv.URL), open(t, srv.URL)
	e1, e2 := listen(t, b1, "a"), listen(t, b2, "a")
	var want []string
	for i := range 50 {
		b := b1
		if i%2 == 1 {
			b = b2
		}
		want = append(want, publish(t, b, "a", fmt.Sprint(i)))
	}
	for _, e := range []*ear{e1, e2} {
		nodetest.Eventually(t, patience, "all arrive", func() bool { return len(e.heard()) == len(want) })
		if got := e.heard(); !slices.Equal(got, want) {
			t.Errorf("heard %v, want %v", got, want)
		}
	}
}

// One in 50 republished messages is lost on the way; the log has them all.
func TestHolesAreFilled(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "rc.live.2c.", 50) // the room's part: no canary is lost
	b, pub := open(t, proxy.URL), open(t, srv.URL)
	e := listen(t, b, "a")
	var want []string
	for i := range 1001 { // the last one shows whether the 1,000th was lost
		want = append(want, publish(t, pub, "a", fmt.Sprint(i)))
	}
	nodetest.Eventually(t, patience, "all arrive", func() bool { return len(e.heard()) == len(want) })
	if got := e.heard(); !slices.Equal(got, want) {
		t.Error("order or content differs")
	}
	lost, filled := float64(proxy.Dropped.Load()), testutil.ToFloat64(b.metrics.FilledMessages)
	late := testutil.ToFloat64(b.metrics.AuditRepairs) // the audit fetches what is long on its way
	if lost != 20 || filled < lost || filled > lost && late == 0 {
		t.Errorf("%v messages were lost, %v filled; want 20 and as many", lost, filled)
	}
	if n := len(e.broken()); n != 0 {
		t.Errorf("%d breaks", n)
	}
}

// The connection is cut while others publish: what was republished meanwhile is read
// from the log.
func TestReconnectFills(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "none", 1)
	b, pub := open(t, proxy.URL), open(t, srv.URL)
	e := listen(t, b, "a")
	var want []string
	for i := range 300 {
		if i%100 == 50 {
			proxy.Cut()
		}
		want = append(want, publish(t, pub, "a", fmt.Sprint(i)))
	}
	nodetest.Eventually(t, 2*patience, "all arrive", func() bool { return len(e.heard()) == len(want) })
	if got := e.heard(); !slices.Equal(got, want) {
		t.Error("order or content differs")
	}
}

// The connection is away for longer than the room's history, which is some pages long.
func TestReconnectAfterTheHistory(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "none", 1)
	b, pub := open(t, proxy.URL), open(t, srv.URL)
	e := listen(t, b, "a")
	publish(t, pub, "a", "heard")
	nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) == 1 })
	proxy.Part()
	var missed []string
	for i := range 1500 {
		missed = append(missed, publish(t, pub, "a", fmt.Sprint(i)))
	}
	proxy.Join()
	nodetest.Eventually(t, 2*patience, "the last arrives", func() bool { return slices.Contains(e.heard(), missed[len(missed)-1]) })
	if got, want := e.heard()[1:], missed[len(missed)-1001:]; !slices.Equal(got, want) { // the anchor is one more
		t.Errorf("heard %d messages, want the newest %d in their order", len(got), len(want))
	}
	if got := e.broken(); !slices.Equal(got, []room.GapReason{room.Truncated}) {
		t.Errorf("it was told %v", got)
	}
}

func TestNoInterestNoTraffic(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b1, b2 := open(t, srv.URL), open(t, srv.URL, func(c *bus.Config) { c.Node = "other" })
	listen(t, b2, "mine")
	sent := func() (n int64) {
		conns, err := srv.Server.Connz(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range conns.Conns {
			if strings.HasPrefix(c.Name, "roomcast other ") {
				n += c.OutMsgs
			}
		}
		return n
	}
	before, began := sent(), time.Now()
	q := b1.NewSequence()
	acked := make(chan error, 10_000)
	for i := range 10_000 {
		q.Publish(t.Context(), text(room.Name(fmt.Sprint("r", i%100)), "x"), func(_ room.Ack, err error) { acked <- err })
	}
	for range 10_000 {
		if err := <-acked; err != nil {
			t.Fatal(err)
		}
	}
	n := sent() - before
	if own := 200 + 10*int64(time.Since(began).Seconds()); n > own { // heartbeats and canaries, a few a second
		t.Errorf("NATS sent %d messages to a node without interest; its own may be %d", n, own)
	}
}

// A room that is left and entered again while messages flow hears each once.
func TestListenAgain(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	for i := range 20 {
		e := &ear{}
		stop := b.Listen("a", e)
		stop()
		e = listen(t, b, "a")
		id := publish(t, b, "a", fmt.Sprint(i))
		nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) > 0 })
		if got := e.heard(); len(got) != 1 || got[0] != id {
			t.Fatalf("heard %v, want %s alone", got, id)
		}
	}
}

// What others put into the stream is left out and stops nobody.
func TestForeignMessage(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	first := publish(t, b, "a", "one")
	subject := nodetest.Log(t, srv.Connect(t), "RC_default")[0].Subject
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{{0xff, 0xff}, nil} {
		if _, err := js.Publish(t.Context(), subject, body); err != nil {
			t.Fatal(err)
		}
	}
	second := publish(t, b, "a", "two")
	nodetest.Eventually(t, patience, "both arrive", func() bool { return len(e.heard()) == 2 })
	if got := e.heard(); got[0] != first || got[1] != second {
		t.Errorf("heard %v", got)
	}
	page, err := b.Read(t.Context(), "a", room.Position{}, 10)
	if err != nil || len(page.Messages) != 2 {
		t.Errorf("read %d messages, %v; want 2", len(page.Messages), err)
	}
}

// A publisher that is none of ours writes what NATS itself writes of a message, behind it.
func TestForeignHeaders(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	want := []string{publish(t, b, "a", "one")}
	entry := nodetest.Log(t, srv.Connect(t), "RC_default")[0]
	msg := nats.NewMsg(entry.Subject)
	msg.Data = entry.Data
	msg.Header = nats.Header{nats.JSStream: {"RC_other"}, nats.JSSequence: {"1"}, nats.JSLastSequence: {"9"}, nats.JSTimeStamp: {"today"}}
	reply, err := srv.Connect(t).RequestMsg(msg, patience)
	if err != nil {
		t.Fatal(err)
	}
	var ack jetstream.PubAck
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		t.Fatal(err)
	}
	copied := parse(t, want[0])
	copied.Seq = ack.Sequence
	want = append(want, copied.String(), publish(t, b, "a", "two"))
	nodetest.Eventually(t, patience, "all arrive", func() bool { return len(e.heard()) == len(want) })
	if got := e.heard(); !slices.Equal(got, want) {
		t.Errorf("heard %v, want %v", got, want)
	}
	page, err := b.Read(t.Context(), "a", room.Position{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	var read []string
	for _, m := range page.Messages {
		read = append(read, m.ID)
	}
	if !slices.Equal(read, want) {
		t.Errorf("read %v, want %v", read, want)
	}
}

// A room opens and is read although its whole history is what others put there.
func TestForeignHistory(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	publish(t, b, "small:a", "one")
	subject := nodetest.Log(t, srv.Connect(t), "RC_small")[0].Subject
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err := js.Publish(t.Context(), subject, []byte{0xff, 0xff}); err != nil {
			t.Fatal(err)
		}
	}
	e := listen(t, b, "small:a")
	page, err := b.Read(t.Context(), "small:a", room.Position{}, 10)
	if err != nil || len(page.Messages) != 0 {
		t.Errorf("read %d messages, %v", len(page.Messages), err)
	}
	id := publish(t, b, "small:a", "two")
	nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) == 1 })
	if got := e.heard()[0]; got != id {
		t.Errorf("heard %s, want %s", got, id)
	}
}

// NATS loses the stream under a running node: the node makes it again, and its rooms
// are told.
func TestReplacedLogResets(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	publish(t, b, "a", "one")
	nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) == 1 })
	js, err := jetstream.New(srv.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "RC_default"); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "the room is told", func() bool {
		b.Ready(t.Context())
		return slices.Contains(e.broken(), room.Reset)
	})
	id := publish(t, b, "a", "two")
	nodetest.Eventually(t, patience, "and goes on", func() bool { return len(e.heard()) == 2 })
	if got := e.heard()[1]; got != id {
		t.Errorf("heard %s, want %s", got, id)
	}
}
