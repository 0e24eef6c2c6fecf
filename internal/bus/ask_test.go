package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// echoes answers questions of the kind "echo" with the question and three parts.
func echoes(t *testing.T, b testBus, name string) {
	t.Helper()
	err := b.Answer("echo", func(_ context.Context, question []byte, part func([]byte)) {
		for i := range 3 {
			part(fmt.Appendf(nil, "%s %s %d", name, question, i))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ask asks until the answer is complete, or is not, as wanted.
func ask(t *testing.T, b testBus, kind string, complete bool) (answers []string, missing []string) {
	t.Helper()
	nodetest.Eventually(t, patience, fmt.Sprintf("an answer with complete=%t", complete), func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answers = nil
		who := b.Ask(ctx, kind, []byte("q"), func(node string, part []byte) {
			answers = append(answers, node+": "+string(part))
		})
		missing = who.Missing
		if who.Complete && len(who.Missing) > 0 {
			t.Errorf("complete without %q", who.Missing)
		}
		return who.Complete == complete
	})
	slices.Sort(answers)
	return answers, missing
}

func TestAsk(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "none", 1)
	a, b := open(t, proxy.URL, named("a")), open(t, srv.URL, named("b"))
	c := open(t, srv.URL, named("c"))
	all := map[string]testBus{"a": a, "b": b, "c": c}
	for name, bus := range all {
		echoes(t, bus, name)
	}
	for _, bus := range all {
		eventuallyNames(t, bus, "a b c")
	}
	want := []string{"a: a q 0", "a: a q 1", "a: a q 2", "b: b q 0", "b: b q 1", "b: b q 2", "c: c q 0", "c: c q 1", "c: c q 2"}
	for name, bus := range all {
		answers, _ := ask(t, bus, "echo", true)
		if diff := cmp.Diff(want, answers); diff != "" {
			t.Errorf("%s is told (-want +got):\n%s", name, diff)
		}
	}
	if _, missing := ask(t, b, "nobody", false); !slices.Equal(missing, []string{"a", "b", "c"}) {
		t.Errorf("nobody answers this kind, and missing is %q", missing)
	}
	c.Close() // who leaves is nobody to wait for
	if answers, _ := ask(t, a, "echo", true); !slices.Equal(answers, want[:6]) {
		t.Errorf("without c it is %q", answers)
	}
	proxy.Stop() // a is cut off: it still knows whom it cannot ask, and b misses it until its lease ends
	answers, missing := ask(t, a, "echo", false)
	if !slices.Equal(answers, want[:3]) || !slices.Equal(missing, []string{"b"}) {
		t.Errorf("cut off it is told %q, missing %q", answers, missing)
	}
	if _, missing := ask(t, b, "echo", false); !slices.Equal(missing, []string{"a"}) {
		t.Errorf("b misses %q", missing)
	}
	if answers, _ := ask(t, b, "echo", true); !slices.Equal(answers, want[3:6]) {
		t.Errorf("once a's lease has ended, b is told %q", answers)
	}
	if _, missing := ask(t, a, "echo", false); !slices.Equal(missing, []string{"b"}) {
		t.Errorf("a cannot know that b is gone, and misses %q", missing)
	}
}

// A node that begins to answer and does not end is missing, whatever it has said.
func TestAskHalfAnswered(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a, b := open(t, srv.URL, named("a")), open(t, srv.URL, named("b"))
	echoes(t, a, "a")
	err := b.Answer("echo", func(ctx context.Context, _ []byte, part func([]byte)) {
		part([]byte("one"))
		part([]byte("two"))
		<-ctx.Done()
	})
	if err != nil {
		t.Fatal(err)
	}
	eventuallyNames(t, a, "a b")
	answers, missing := ask(t, a, "echo", false)
	if !slices.Equal(missing, []string{"b"}) || !slices.Contains(answers, "b: one") {
		t.Errorf("answers %q, missing %q", answers, missing)
	}
}

// Who answered with a part that got lost on the way is missing, as who did not answer.
func TestAskLostPart(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a := open(t, srv.URL, named("a"))
	echoes(t, a, "a")
	nc := srv.Connect(t)
	send := func(subject string, m proto.Message) {
		body, err := proto.Marshal(m)
		if err == nil {
			err = nc.Publish(subject, body)
		}
		if err != nil {
			t.Error(err)
		}
	}
	_, err := nc.Subscribe("rc.ctl.ask.echo", func(ask *nats.Msg) {
		send(ask.Reply, &busv1.Answer{Node: "x", Incarnation: "i", Part: []byte("one")})
		send(ask.Reply, &busv1.Answer{Node: "x", Incarnation: "i", Part: []byte("three"), Last: true, Parts: 3})
	})
	if err != nil {
		t.Fatal(err)
	}
	send("rc.ctl.hb", &busv1.Heartbeat{Node: "x", Incarnation: "i", Since: time.Now().UnixNano()})
	eventuallyNames(t, a, "a x")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	who := a.Ask(ctx, "echo", nil, func(string, []byte) {})
	if who.Complete || !slices.Equal(who.Missing, []string{"x"}) {
		t.Errorf("complete=%t, missing %q; want x to be missing", who.Complete, who.Missing)
	}
}

func TestAskNode(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a, b := open(t, srv.URL, named("a")), open(t, srv.URL, named("b.x *"))
	echoes(t, a, "a")
	echoes(t, b, "b")
	eventuallyNames(t, a, "a b.x *")
	tests := map[string]struct {
		node, kind, want string
		kindOf           room.Kind
	}{
		"other":   {node: "b.x *", kind: "echo", want: "b q 0 b q 1 b q 2"},
		"itself":  {node: "a", kind: "echo", want: "a q 0 a q 1 a q 2"},
		"nobody":  {node: "z", kind: "echo", kindOf: room.NotFound},
		"silence": {node: "b.x *", kind: "nothing", kindOf: room.Unavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var got []string
			err := a.AskNode(ctx, tt.node, tt.kind, []byte("q"), func(part []byte) { got = append(got, string(part)) })
			if strings.Join(got, " ") != tt.want || (err == nil) != (tt.want != "") || err != nil && room.AsError(err).Kind != tt.kindOf {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// Alone there is nobody to ask but oneself, and that is everybody.
func TestAskAlone(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, "", named("a"), func(c *bus.Config) { c.Embedded = nats.InProcessServer(srv.Server) })
	echoes(t, b, "a")
	if answers, _ := ask(t, b, "echo", true); len(answers) != 3 {
		t.Errorf("got %q", answers)
	}
}

// What is told after a node was asked is heard, in order.
func TestTellAndHear(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	a, b := open(t, srv.URL, named("a")), open(t, srv.URL, named("b"))
	err := b.Answer("begin", func(context.Context, []byte, func([]byte)) {
		for i := range 100 {
			b.Tell("room.*", fmt.Append(nil, i))
			b.Tell("other", nil)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	eventuallyNames(t, a, "a b")
	var mu sync.Mutex
	var heard []string
	stop, err := a.Hear(t.Context(), "room.*", func(body []byte) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, string(body))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := a.AskNode(t.Context(), "b", "begin", nil, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "100 are heard", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) == 100
	})
	for i, text := range heard {
		if text != fmt.Sprint(i) {
			t.Fatalf("number %d is %s", i, text)
		}
	}
}

// A question that comes while a node closes begins nothing that Close would not wait for.
func TestClosedAnswersNothing(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	var answers atomic.Int64
	if err := b.Answer("echo", func(context.Context, []byte, func([]byte)) { answers.Add(1) }); err != nil {
		t.Fatal(err)
	}
	b.Close()
	for range 100 {
		if err := b.HearQuestion("echo"); err != nil {
			t.Fatal(err)
		}
	}
	b.Close() // waits again
	if n := answers.Load(); n > 0 {
		t.Errorf("%d of 100 questions were answered after Close", n)
	}
}
