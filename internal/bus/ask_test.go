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

// askOnce asks for at most a second.
func askOnce(t *testing.T, b testBus, kind string) (answers []string, who bus.Attendance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	who = b.Ask(ctx, kind, []byte("q"), func(node string, part []byte) {
		answers = append(answers, node+": "+string(part))
	})
	if who.Complete && len(who.Missing) > 0 {
		t.Errorf("complete without %q", who.Missing)
	}
	slices.Sort(answers)
	return answers, who
}

// ask asks until exactly these are missing and returns the answers, which are complete
// if nobody is.
func ask(t *testing.T, b testBus, kind string, missing ...string) (answers []string) {
	t.Helper()
	nodetest.Eventually(t, patience, fmt.Sprintf("an answer without %q", missing), func() bool {
		var who bus.Attendance
		answers, who = askOnce(t, b, kind)
		return who.Complete == (len(missing) == 0) && slices.Equal(who.Missing, missing)
	})
	return answers
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
		answers := ask(t, bus, "echo")
		if diff := cmp.Diff(want, answers); diff != "" {
			t.Errorf("%s is told (-want +got):\n%s", name, diff)
		}
	}
	ask(t, b, "nobody", "a", "b", "c") // answer this kind
	c.Close()                          // who leaves is nobody to wait for
	if answers := ask(t, a, "echo"); !slices.Equal(answers, want[:6]) {
		t.Errorf("without c it is %q", answers)
	}
	proxy.Stop() // a is cut off: b misses it until its lease ends
	nodetest.Eventually(t, patience, "b's answer is complete without a", func() bool {
		answers, who := askOnce(t, b, "echo")
		if names(b) == "a b" && (who.Complete || !slices.Equal(who.Missing, []string{"a"})) {
			t.Errorf("while a may be there, complete is %t and missing %q", who.Complete, who.Missing)
		}
		if who.Complete && !slices.Equal(answers, want[3:6]) {
			t.Errorf("once a's lease has ended, b is told %q", answers)
		}
		return who.Complete
	})
	// It still knows whom it cannot ask, and cannot know that b is gone.
	if answers := ask(t, a, "echo", "b"); !slices.Equal(answers, want[:3]) {
		t.Errorf("cut off it is told %q", answers)
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
	nodetest.Eventually(t, patience, "half an answer", func() bool {
		answers, who := askOnce(t, a, "echo")
		begun := slices.Contains(answers, "b: one")
		if begun && (who.Complete || !slices.Equal(who.Missing, []string{"b"})) {
			t.Errorf("complete is %t, missing %q", who.Complete, who.Missing)
		}
		return begun
	})
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
	since := time.Now().UnixNano()
	nodetest.Eventually(t, patience, "x answers", func() bool {
		send("rc.ctl.hb", &busv1.Heartbeat{Node: "x", Incarnation: "i", Since: since})
		if names(a) != "a x" {
			return false
		}
		answers, who := askOnce(t, a, "echo")
		heard := slices.Contains(answers, "x: three")
		if heard && (who.Complete || !slices.Equal(who.Missing, []string{"x"})) {
			t.Errorf("complete=%t, missing %q; want x to be missing", who.Complete, who.Missing)
		}
		return heard
	})
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
			var got []string
			nodetest.Eventually(t, patience, "an answer, or the error", func() bool { // it may be late, or b not heard
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				got = nil
				err := a.AskNode(ctx, tt.node, tt.kind, []byte("q"), func(part []byte) { got = append(got, string(part)) })
				return (err == nil) == (tt.want != "") && (err == nil || room.AsError(err).Kind == tt.kindOf)
			})
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q", got)
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
	if answers := ask(t, b, "echo"); len(answers) != 3 {
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
