package node_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// copyStore makes a copy of the store of NATS, which is stopped, to be put back later.
func copyStore(t *testing.T, nats *nodetest.NATS) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(path, os.DirFS(nats.StoreDir())); err != nil {
		t.Fatal(err)
	}
	return path
}

// putBack replaces the store of NATS, which is stopped, by a copy; none is an empty one.
func putBack(t *testing.T, nats *nodetest.NATS, older string) {
	t.Helper()
	if err := os.RemoveAll(nats.StoreDir()); err != nil {
		t.Fatal(err)
	}
	if older == "" {
		return
	}
	if err := os.CopyFS(nats.StoreDir(), os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
}

// Everything stops, an older copy of the store is put back, everything starts, and others
// publish until the sequences are used again. No node remembers what was lost; the
// positions do. Whoever has seen a message that is gone is told RESET, and so is a room
// that was quiet: its position is of a moment that never was.
func TestRolledBackStore(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	start := func() *nodetest.Node { return nodetest.Start(t, 1, nodetest.OnNATS(nats.URL))[0] }
	n := start()
	kept := publishAll(t, n, "a", numbered(5))
	quietBefore := dial(t, n, "").subscribe("quiet", "")
	stop := func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		nats.Stop()
	}
	stop()
	older := copyStore(t, nats)
	nats.Start()
	n = start()
	lost := publishAll(t, n, "a", numbered(5))
	quietLost := dial(t, n, "").subscribe("quiet", "")
	stop()
	putBack(t, nats, older)
	nats.Start()
	n = start()
	publishAll(t, n, "other", numbered(3))
	news := publishAll(t, n, "a", []string{"new"})
	publishAll(t, n, "quiet", []string{"new"})
	publishAll(t, n, "other", numbered(20))
	for _, id := range lost {
		checkReset(t, n, "a", id)
	}
	checkReset(t, n, "quiet", quietLost)
	s := dial(t, n, "")
	s.subscribe("a", kept[4])
	if got := ids(s.messages(1)); got[0] != news[0] {
		t.Errorf("after the last message of the copy: %s, want %s", got, news)
	}
	s = dial(t, n, "")
	s.subscribe("quiet", quietBefore)
	if diff := cmp.Diff([]string{"new"}, texts(s.messages(1))); diff != "" {
		t.Errorf("after a quiet moment of the copy (-want +got):\n%s", diff)
	}
}

// checkReset resumes and wants to be told RESET before anything else.
func checkReset(t *testing.T, n *nodetest.Node, name, after string) {
	t.Helper()
	s := dial(t, n, "")
	s.subscribe(name, after)
	if f := s.next(); f.Gap == nil || f.Gap.Reason != "RESET" {
		t.Errorf("%s after %s: %+v, want RESET", name, after, f)
	}
}

// NATS comes back empty under running nodes: every socket of both is told RESET in every
// room, stored messages follow, and nothing of before counts.
func TestEmptyStore(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nats.URL))
	rooms := []string{"a", "b", "quiet"}
	before := publishAll(t, nodes[0], "a", numbered(30))
	publishAll(t, nodes[0], "b", numbered(1))
	var sockets []*socket
	for i := range 6 {
		s := dial(t, nodes[i%2], "")
		for _, name := range rooms {
			s.subscribe(name, "")
		}
		sockets = append(sockets, s)
	}
	nats.Stop()
	putBack(t, nats, "")
	nats.Start()
	for i, s := range sockets {
		var told []string
		for len(told) < len(rooms) {
			f := s.next()
			if f.Gap == nil || f.Gap.Reason != "RESET" {
				t.Fatalf("socket %d: got %+v, want RESET in each room", i, f)
			}
			told = append(told, f.Gap.Room)
		}
		slices.Sort(told)
		if diff := cmp.Diff(rooms, told); diff != "" {
			t.Errorf("socket %d was told RESET in (-want +got):\n%s", i, diff)
		}
	}
	after := publishAll(t, nodes[1], "a", numbered(40))
	for i, s := range sockets {
		if diff := cmp.Diff(after, ids(s.messages(len(after)))); diff != "" {
			t.Errorf("socket %d after the reset (-want +got):\n%s", i, diff)
		}
	}
	checkReset(t, nodes[0], "a", before[29])
}

// Everything stops and starts again, the nodes in the other order: who resumes on any
// node gets what he missed, and no gap.
func TestEverythingRestarts(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	nodes := nodetest.Start(t, 2, nodetest.OnNATS(nats.URL))
	all := publishAll(t, nodes[0], "a", numbered(20))
	s := dial(t, nodes[0], "")
	places := map[string]string{"a": all[9], "quiet": s.subscribe("quiet", "")}
	for _, n := range nodes {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	}
	nats.Stop()
	nats.Start()
	nodes = nodetest.Start(t, 2, nodetest.OnNATS(nats.URL))
	for _, n := range nodes {
		s := dial(t, n, "")
		s.subscribe("a", places["a"])
		if diff := cmp.Diff(all[10:], ids(s.messages(10))); diff != "" {
			t.Errorf("after the restart (-want +got):\n%s", diff)
		}
		s.subscribe("quiet", places["quiet"])
		if got := s.quiet(); len(got) > 0 {
			t.Errorf("in the quiet room: %+v", got)
		}
		id := publish(t, n, text("quiet", "first"))
		if got := s.messages(1); got[0].ID != id {
			t.Errorf("got %+v, want %s", got, id)
		}
		places["quiet"] = id
	}
}
