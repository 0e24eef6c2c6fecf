package bus_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// Holes are longer than their rooms' history, and one of three replicas lacks the last
// messages for a moment. After the gap nothing may be missing: the log has it. Direct
// Get asks any replica, so each of the 16 rooms meets the one that is behind with a
// chance of one in three.
func TestGapOverALaggingReplica(t *testing.T) {
	t.Parallel()
	const rooms = 16
	cluster := nodetest.StartCluster(t)
	pub := open(t, cluster.Servers[1].URL, replicated)
	cluster.MoveLeader("RC_small", 1)
	cluster.AwaitReplica("RC_small", 0, parse(t, publish(t, pub, "small:other", "0")).Seq)
	proxy := nodetest.StartProxy(t, cluster.Servers[0].URL, "rc.live.", 1) // loses every live message until healed
	proxy.Divert(cluster.Servers[2].URL)                                   // control: asks the leader by a route that is not held
	b := open(t, proxy.URL, replicated)
	nodetest.Eventually(t, patience, "the bus knows the leader", func() bool { return len(pub.Ready(t.Context())) == 0 })
	name := func(i int) room.Name { return room.Name(fmt.Sprint("small:", i)) }
	ears, ids := make([]*ear, rooms), make([][]string, rooms)
	for i := range rooms {
		publish(t, pub, name(i), "0")
		ears[i] = listen(t, b, name(i))
		for j := 1; j <= 6; j++ { // missed; the log keeps 4
			ids[i] = append(ids[i], publish(t, pub, name(i), fmt.Sprint(j)))
		}
	}
	cluster.Isolate(0)
	for i := range rooms {
		ids[i] = append(ids[i], publish(t, pub, name(i), "not at every replica"))
	}
	proxy.Heal()
	for i := range rooms {
		ids[i] = append(ids[i], publish(t, pub, name(i), "live"))
	}
	nodetest.Eventually(t, patience, "some rooms go on", func() bool {
		n := 0
		for _, e := range ears {
			if len(e.heard()) > 0 {
				n++
			}
		}
		return n >= rooms/2
	})
	cluster.Release()
	for i, e := range ears {
		nodetest.Eventually(t, 2*patience, "the last is heard", func() bool {
			return slices.Contains(e.heard(), ids[i][len(ids[i])-1])
		})
		heard := e.heardSince() // an audit may have found some of those that were missed
		want := ids[i][len(ids[i])-min(len(heard), len(ids[i])):]
		if !slices.Equal(heard, want) {
			t.Errorf("%s: after %v heard\n%v, want\n%v", name(i), e.broken(), heard, want)
		}
	}
}
