package bus_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// liveOf is the live subject of a room that has a message.
func liveOf(t *testing.T, srv *nodetest.NATS, name string) string {
	t.Helper()
	for _, msg := range nodetest.Log(t, srv.Connect(t), "RC_default") {
		if parts := strings.Split(msg.Subject, "."); parts[len(parts)-1] == name {
			return "rc.live." + parts[3] + "." + name
		}
	}
	t.Fatalf("no message of %s", name)
	return ""
}

// Every message of a room is lost on its way, and no later one tells of it.
func TestAuditFindsLostTail(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	pub := open(t, srv.URL)
	publish(t, pub, "lost", "first")
	proxy := nodetest.StartProxy(t, srv.URL, liveOf(t, srv, "lost"), 1)
	b := open(t, proxy.URL)
	e, other := listen(t, b, "lost"), listen(t, b, "other")
	id := publish(t, pub, "lost", "tail")
	otherID := publish(t, pub, "other", "comes")
	nodetest.Eventually(t, patience, "the audit finds it", func() bool { return slices.Equal(e.heard(), []string{id}) })
	nodetest.Eventually(t, patience, "the other room is heard", func() bool { return slices.Equal(other.heard(), []string{otherID}) })
	// A message of the other room that is long on its way is one more to repair.
	if repairs, n := testutil.ToFloat64(b.metrics.AuditRepairs), len(e.broken()); repairs < 1 || n != 0 {
		t.Errorf("%v repairs, %d breaks; want one and none", repairs, n)
	}
}

// The live path is dead, everything else works: the canary tells, and rooms are read
// from the log meanwhile.
func TestCanaryFindsDeadLivePath(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	proxy := nodetest.StartProxy(t, srv.URL, "rc.live.", 1)
	b := open(t, proxy.URL)
	e := listen(t, b, "a")
	id := publish(t, b, "a", "x")
	nodetest.Eventually(t, 2*patience, "the canary is missed", func() bool {
		reasons := strings.Join(b.Ready(t.Context()), "\n")
		return strings.Contains(reasons, `messages of namespace "default" do not come through`) && b.Degraded()
	})
	nodetest.Eventually(t, patience, "the room is read from the log", func() bool { return slices.Equal(e.heard(), []string{id}) })
	proxy.Heal()
	nodetest.Eventually(t, patience, "it is well again", func() bool { return len(b.Ready(t.Context())) == 0 && !b.Degraded() })
	if testutil.ToFloat64(b.metrics.CanarySeconds) <= 0 {
		t.Error("the canary has no time")
	}
}

// What others put into a room's log is audited once and then known.
func TestAuditOfForeignMessage(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	e := listen(t, b, "a")
	publish(t, b, "a", "x")
	nodetest.Eventually(t, patience, "it arrives", func() bool { return len(e.heard()) == 1 })
	subject := strings.Replace(liveOf(t, srv, "a"), "rc.live.", "rc.pub.default.", 1)
	if _, err := srv.Connect(t).Request(subject, []byte{0xff}, patience); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "the audit sees it", func() bool { return testutil.ToFloat64(b.metrics.AuditRepairs) == 1 })
	// One look later it is seen again, and two looks later what that one found is counted.
	seen := testutil.ToFloat64(b.metrics.AuditedRooms)
	nodetest.Eventually(t, patience, "it is audited twice", func() bool { return testutil.ToFloat64(b.metrics.AuditedRooms) >= seen+2 })
	if n := testutil.ToFloat64(b.metrics.AuditRepairs); n != 1 || slices.Contains(e.broken(), room.Truncated) {
		t.Errorf("%v repairs, breaks %v; want one and none", n, e.broken())
	}
	id := publish(t, b, "a", "y")
	nodetest.Eventually(t, patience, "the room goes on", func() bool { return slices.Contains(e.heard(), id) })
}

// The log's leader changes while this node has no room, so that nobody asks: NATS
// tells. What it tells may be lost on the way: then it is the next change that is noticed.
func TestLeaderChangeIsNoticed(t *testing.T) {
	t.Parallel()
	cluster := nodetest.StartCluster(t)
	var said journal
	open(t, cluster.Servers[0].URL, replicated).Close() // makes the log
	cluster.MoveLeader("RC_default", 2)
	open(t, cluster.Servers[0].URL, replicated, logging(&said))
	var moved time.Time
	moves := 0
	nodetest.Eventually(t, patience, "a new leader is noticed", func() bool {
		if time.Since(moved) > 2*time.Second {
			cluster.MoveLeader("RC_default", 1+moves%2)
			moves, moved = moves+1, time.Now()
		}
		return said.counts("the log has another leader") > 0
	})
}
