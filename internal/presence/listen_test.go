package presence

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/room"
)

// The snapshot of a large room takes long: other rooms must not wait for it.
func TestSnapshotHoldsUpNoOtherRoom(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster, _ *log, _ func(...string)) {
		t.Helper()
		snapshots := 0
		watches := &c.nodes[0].watches
		w := c.nodes[0].Watch("room", func(*Event) bool {
			snapshots++
			if !watches.mu.TryLock() {
				t.Error("a snapshot is given with the lock of all rooms held")
				return true
			}
			watches.mu.Unlock()
			return true
		})
		w.Stop()
		if snapshots != 1 {
			t.Errorf("%d snapshots", snapshots)
		}
	})
}

// A brief snapshot has the first members at its moment, whoever came and went.
func TestBriefSnapshots(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster, _ *log, _ func(...string)) {
		t.Helper()
		random := rand.New(rand.NewPCG(1, 2))
		there := make(map[string]func())
		for i := range 1100 {
			name := fmt.Sprintf("%03d", random.IntN(2*BriefMembers))
			if leave := there[name]; leave != nil && i > 700 {
				leave()
				delete(there, name)
			} else if leave == nil {
				there[name] = c.nodes[i%3].enter("room", name).Leave
			}
			if i < 700 {
				continue // it becomes large
			}
			synctest.Wait()
			var want []string
			for name := range there {
				want = append(want, name)
			}
			slices.Sort(want)
			var got *Event
			c.nodes[0].WatchBriefly("room", func(e *Event) bool { got = e; return true }).Stop()
			var names []string
			for _, m := range got.Members {
				names = append(names, m.Connection)
			}
			if diff := cmp.Diff(want[:min(BriefMembers, len(want))], names); diff != "" || got.Connections != len(want) {
				t.Fatalf("step %d: %d connections, want %d; members (-want +got):\n%s", i, got.Connections, len(want), diff)
			}
		}
	})
}

// BenchmarkBriefSnapshot is what somebody costs who comes to a room of 30,000 and wants to
// be told of its members.
func BenchmarkBriefSnapshot(b *testing.B) {
	r := newWatched(New(Config{Logger: slog.New(slog.DiscardHandler)}), "room")
	r.ready = true
	v := r.view("a")
	member := func(i int) room.Member {
		return room.Member{User: fmt.Sprint("user ", i), Connection: fmt.Sprint("c", i), Node: "a"}
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(30_000)
	for _, i := range order {
		r.join(v, member(i))
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		i := order[n%len(order)]
		r.leave(v, member(i).Connection, room.Closed)
		r.join(v, member(i))
		if e := r.snapshot(true); len(e.Members) != BriefMembers {
			b.Fatal(len(e.Members))
		}
	}
}
