package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/room"
)

// names are the connections of members, sorted.
func names(members iter.Seq[room.Member]) string {
	var list []string
	for m := range members {
		list = append(list, m.Connection)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// events are what a watch was told: "1 +c1", "2 -c1 CLOSED".
type events []string

func (e *events) tell(seq uint64, m room.Member, left room.LeaveReason) {
	if left == "" {
		*e = append(*e, fmt.Sprintf("%d +%s %s", seq, m.Connection, m.User))
		return
	}
	*e = append(*e, fmt.Sprintf("%d -%s %s", seq, m.Connection, left))
}

func TestMembers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	want := func(members string) {
		t.Helper()
		if got := names(w.Members("a")); got != members {
			t.Errorf("members are %q, want %q", got, members)
		}
	}
	want("")
	c1, r1 := w.join("a", room.Position{})
	c2, _ := w.join("a", room.Position{})
	w.join("b", room.Position{})
	want("c1 c2")
	again, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", at(9), r1)
	if err != nil {
		t.Fatal(err)
	}
	want("c1 c2") // not before its Start
	again.Succeed(c1)
	want("c1 c2")
	again.Start()
	want("c1 c2")
	if got := slices.Sorted(w.Occupied()); !slices.Equal(got, []room.Name{"a", "b"}) {
		t.Errorf("occupied are %v", got)
	}
	if head, members, slow := w.Standing("a"); head != at(10) || members != 2 || slow != 1 {
		t.Errorf("head %v, members %d, slow %d; want 10, 2 and the one that resumed", head, members, slow)
	}
	c1.Leave() // it has left already
	want("c1 c2")
	c2.Close()
	want("c1")
	again.Leave()
	want("")
	if got := slices.Sorted(w.Occupied()); !slices.Equal(got, []room.Name{"b"}) {
		t.Errorf("occupied are %v", got)
	}
}

// Who is no socket, such as a watch of messages, is no member.
func TestNoMemberWithoutConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", room.Position{}, &reader{w: w})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Leave()
	c.Start()
	if got := names(w.Members("a")); got != "" || len(slices.Collect(w.Occupied())) != 0 {
		t.Errorf("members are %q", got)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	var got events
	stop := w.Watch("a", got.tell) // before anybody has the room
	c1, r1 := w.join("a", room.Position{})
	w.join("b", room.Position{})
	c2, _ := w.join("a", room.Position{})
	again, _, err := w.Join(t.Context(), time.Now().Add(time.Minute), "a", room.Position{}, r1)
	if err != nil {
		t.Fatal(err)
	}
	again.Succeed(c1)
	again.Start()
	members, seq := w.Snapshot("a")
	if len(members) != 2 || seq != 2 {
		t.Errorf("snapshot of %d members at %d, want 2 at 2", len(members), seq)
	}
	r1.user = "bob"
	again.Renamed()
	c2.Close()
	again.Leave() // the room ends, its watch does not
	if members, seq := w.Snapshot("a"); len(members) != 0 || seq != 6 {
		t.Errorf("snapshot of %d members at %d, want 0 at 6", len(members), seq)
	}
	c3, _ := w.join("a", room.Position{})
	if seq := w.Told("a"); seq != 7 {
		t.Errorf("told %d, want 7", seq)
	}
	stop()
	c3.Leave()
	want := events{
		"1 +c1 ann", "2 +c3 ann", "3 -c1 UNSUBSCRIBED", "4 +c1 bob", "5 -c3 CLOSED", "6 -c1 UNSUBSCRIBED", "7 +c4 ann",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if seq := w.Told("a"); seq != 0 {
		t.Errorf("told %d without a watch", seq)
	}
}

// A receipt counts who was there before the message, once the node has it.
func TestArrived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &quietSource{head: at(10)}, &pages{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		want := func(at room.Position, members string) {
			t.Helper()
			there, err := w.Arrived(ctx, "a", at)
			if err != nil || names(there) != members {
				t.Errorf("at %v: %q, %v; want %q", at, names(there), err, members)
			}
		}
		want(at(11), "") // nobody has the room: there is nothing to wait for
		c1, _ := w.join("a", room.Position{})
		r := c1.part.room
		time.AfterFunc(100*time.Millisecond, func() { r.Append(message("a", 11)) })
		want(at(11), "c1")
		w.join("a", room.Position{})
		want(at(11), "c1")
		want(room.Position{}, "c1 c2") // as in an ephemeral room
		r.Append(message("a", 12))
		want(at(12), "c1 c2")

		// Another log, whose sequences are lower: both were there before all of it.
		r.Break(room.Reset, room.Position{Epoch: "other", Seq: 3, Check: 1})
		want(room.Position{Epoch: "other", Seq: 3, Check: 1}, "c1 c2")

		if _, err := w.Arrived(ctx, "a", at(13)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a message that never comes: %v", err)
		}
	})
}

// While rooms are looked at, others come and go.
func TestOccupiedLetsOthersGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	const rooms = 3 * occupiedAtOnce
	for i := range rooms {
		w.join(room.Name(fmt.Sprint("r", i)), room.Position{})
	}
	seen := make(map[room.Name]int)
	for name := range w.Occupied() {
		if len(seen) == 0 {
			c, _ := w.join("more", room.Position{}) // would wait for ever
			c.Leave()
		}
		seen[name]++
	}
	delete(seen, "more")
	if len(seen) != rooms {
		t.Errorf("saw %d rooms, want %d", len(seen), rooms)
	}
	for name := range w.Occupied() {
		if name != "" {
			break
		}
	}
}
