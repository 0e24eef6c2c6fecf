package connections

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// page makes a node's answer of "user connection" texts.
func page(more bool, keys ...string) *nodePage {
	p := &nodePage{more: more}
	for _, key := range keys {
		user, connection, _ := strings.Cut(key, " ")
		p.list = append(p.list, &roomcastv1.Connection{User: user, Connection: connection})
	}
	return p
}

func keys(list []*roomcastv1.Connection) []string {
	var all []string
	for _, c := range list {
		all = append(all, c.GetUser()+" "+c.GetConnection())
	}
	return all
}

func TestMerge(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		nodes map[string]*nodePage
		limit int
		want  []string
		more  bool
	}{
		"nobody":   {nil, 3, nil, false},
		"empty":    {map[string]*nodePage{"n1": page(false), "n2": page(false)}, 3, nil, false},
		"in order": {map[string]*nodePage{"n1": page(false, "a 2", "b 1"), "n2": page(false, "a 1", "c 0")}, 9, []string{"a 1", "a 2", "b 1", "c 0"}, false},
		"cut":      {map[string]*nodePage{"n1": page(false, "a 2", "b 1"), "n2": page(false, "a 1", "c 0")}, 3, []string{"a 1", "a 2", "b 1"}, true},
		"exactly":  {map[string]*nodePage{"n1": page(false, "a 2"), "n2": page(false, "a 1")}, 2, []string{"a 1", "a 2"}, false},
		// What n1 has behind b 1 may be before c 0.
		"behind a node's last": {map[string]*nodePage{"n1": page(true, "a 2", "b 1"), "n2": page(false, "a 1", "c 0")}, 9, []string{"a 1", "a 2", "b 1"}, true},
		"the earliest last":    {map[string]*nodePage{"n1": page(true, "a 2", "b 1"), "n2": page(true, "a 1", "a 3")}, 9, []string{"a 1", "a 2", "a 3"}, true},
		"more of one alone":    {map[string]*nodePage{"n1": page(true, "a 1")}, 1, []string{"a 1"}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, more := merge(test.nodes, test.limit)
			if diff := cmp.Diff(test.want, keys(got)); diff != "" || more != test.more {
				t.Errorf("more=%t, want %t; page (-want +got):\n%s", more, test.more, diff)
			}
		})
	}
}

// TestMergeIsBounded: a page ends where gRPC clients would refuse it, and has one
// socket at least.
func TestMergeIsBounded(t *testing.T) {
	t.Parallel()
	p := page(false, "a 1", "a 2", "a 3")
	for _, c := range p.list {
		c.Rooms = []string{strings.Repeat("x", maxPage)}
	}
	if got, more := merge(map[string]*nodePage{"n1": p}, 9); len(got) != 1 || !more {
		t.Errorf("%d sockets of %d bytes each, more=%t; want one, and that there are more", len(got), maxPage, more)
	}
}

// TestParts: sockets with many rooms come through parts that are small enough, whole.
func TestParts(t *testing.T) {
	t.Parallel()
	var got nodePage
	parts := 0
	w := listWriter{log: slog.New(slog.DiscardHandler), part: func(b []byte) {
		parts++
		if len(b) > 64<<10 {
			t.Errorf("a part has %d bytes", len(b))
		}
		if err := got.take("n1", b); err != nil {
			t.Fatal(err)
		}
	}}
	want := map[string][]string{}
	for i := range 50 {
		s := &busv1.OpenConnection{Connection: fmt.Sprint("c", i), User: strings.Repeat("u", 128), Remote: "192.0.2.1"}
		w.begin(s)
		for k := range i * 20 {
			name := fmt.Sprint(strings.Repeat("r", 190), k)
			want[s.GetConnection()] = append(want[s.GetConnection()], name)
			w.add(name)
		}
	}
	w.list.More = true
	w.flush()
	if len(got.list) != 50 || !got.more || parts < 50*20*25*190/(64<<10) {
		t.Fatalf("%d sockets in %d parts, more=%t; want 50 in many, and more", len(got.list), parts, got.more)
	}
	for _, c := range got.list {
		if diff := cmp.Diff(want[c.GetConnection()], c.GetRooms()); diff != "" || c.GetNode() != "n1" {
			t.Errorf("socket %s of %q: rooms (-want +got):\n%s", c.GetConnection(), c.GetNode(), diff)
		}
	}
}
