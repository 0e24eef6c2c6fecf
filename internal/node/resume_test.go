package node_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// A socket resumes after each place of the history, on the node whose ring holds the
// newest messages and on one that has only the log. There are more messages than a
// ring and than a page of the log.
func TestResume(t *testing.T) {
	t.Parallel()
	const count = 950
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nodetest.StartNATS(t).URL))
	live := dial(t, nodes[0], "")
	start := live.subscribe("hello", "")
	bodies := numbered(count)
	stored := publishAll(t, nodes[0], "hello", bodies)
	if diff := cmp.Diff(bodies, texts(live.messages(count))); diff != "" {
		t.Fatalf("live (-want +got):\n%s", diff)
	}
	tests := map[string]struct {
		after string
		want  []string
	}{
		"from the start":       {start, bodies},
		"first":                {stored[0], bodies[1:]},
		"in the log":           {stored[300], bodies[301:]},
		"where the ring began": {stored[count-513], bodies[count-512:]},
		"in the ring":          {stored[count-10], bodies[count-9:]},
		"newest":               {stored[count-1], nil},
	}
	for name, test := range tests {
		for i, n := range nodes {
			s := dial(t, n, "")
			if got := s.subscribe("hello", test.after); got != test.after {
				t.Errorf("%s, node %d: subscribed at %s, want %s", name, i, got, test.after)
			}
			got := s.messages(len(test.want))
			if diff := cmp.Diff(test.want, texts(got)); diff != "" {
				t.Errorf("%s, node %d (-want +got):\n%s", name, i, diff)
			}
			for _, m := range got {
				if !m.Replayed {
					t.Errorf("%s, node %d: %s is not marked as replayed", name, i, m.Text)
					break
				}
			}
			if more := s.quiet(); len(more) != 0 {
				t.Errorf("%s, node %d: more messages: %v", name, i, texts(more))
			}
			_ = s.conn.Close() // its requests are over
		}
	}
}

// Messages follow a resumed socket live, in order and once, while others publish.
func TestResumeWhilePublishing(t *testing.T) {
	t.Parallel()
	const before, during = 700, 300
	n := nodetest.Start(t, 1)[0]
	first := dial(t, n, "")
	start := first.subscribe("hello", "")
	publishAll(t, n, "hello", numbered(before))
	bodies := numbered(before + during)
	published := make(chan struct{})
	go func() {
		defer close(published)
		publishAll(t, n, "hello", bodies[before:])
	}()
	late := dial(t, n, "")
	late.subscribe("hello", start)
	for name, s := range map[string]*socket{"first": first, "late": late} {
		if diff := cmp.Diff(bodies, texts(s.messages(len(bodies)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	<-published
}

// Positions that the history cannot prove are told by a gap, before what there is.
// The log holds one message more than history.size, to prove the position before the
// oldest; whoever has to be told of a gap gets it too.
func TestGaps(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1,
		namespace("small", func(p *room.Policy) { p.History.Size = 3 }),
		namespace("eph", func(p *room.Policy) { p.History.Size = 0 }))[0]
	stored := publishAll(t, n, "small:1", numbered(10))
	foreign := publishAll(t, n, "hello", []string{"x"})[0] // a position of another log
	tests := map[string]struct {
		room, after string
		reason      string
		want        []string
	}{
		"left the history":     {"small:1", stored[2], "TRUNCATED", []string{"6", "7", "8", "9"}},
		"proven by the anchor": {"small:1", stored[6], "", []string{"7", "8", "9"}},
		"another log":          {"small:1", foreign, "RESET", nil},
		"ephemeral":            {"eph:1", stored[2], "RESET", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dial(t, n, "")
			s.subscribe(test.room, test.after)
			if test.reason != "" {
				f := s.next()
				if f.Gap == nil || f.Gap.Reason != test.reason || f.Gap.Room != test.room {
					t.Fatalf("got %+v, want a gap %s", f, test.reason)
				}
			}
			if diff := cmp.Diff(test.want, texts(s.messages(len(test.want)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if more := s.quiet(); len(more) != 0 {
				t.Errorf("more messages: %v", texts(more))
			}
		})
	}
}

// A position that is none is refused, and the socket stays.
func TestBadPosition(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, 1)[0]
	s := dial(t, n, "")
	f := s.answer(s.send(`{"subscribe":{"room":"hello","after":"nonsense"}}`))
	if f.Error == nil || f.Error.Code != "INVALID_ARGUMENT" || f.Error.Reason != "INVALID_POSITION" || f.Error.Field != "subscribe.after" {
		t.Errorf("answered %+v, want INVALID_POSITION in subscribe.after", f)
	}
	s.subscribe("hello", "")
}
