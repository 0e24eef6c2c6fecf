package bus_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// Logs that were made with one replica get what a later start asks for, and lose none
// of them to a start that asks for fewer.
func TestReplicasOfAnExistingLog(t *testing.T) {
	t.Parallel()
	cluster := nodetest.StartCluster(t)
	js, err := jetstream.New(cluster.Servers[0].Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	replicas := func() (n []int) {
		for _, name := range []string{"RC_default", "RC__REVOCATIONS"} {
			s, err := js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			n = append(n, s.CachedInfo().Config.Replicas)
		}
		return n
	}
	first := open(t, cluster.Servers[0].URL)
	follow(t, first)
	first.Close()
	var said journal
	second := open(t, cluster.Servers[0].URL, replicated, logging(&said))
	follow(t, second)
	second.Close()
	if diff := cmp.Diff([]int{3, 3}, replicas()); diff != "" {
		t.Errorf("replicas (-want +got):\n%s", diff)
	}
	if said.counts("replicas 1 to 3") == 0 {
		t.Error("the node does not say so")
	}
	follow(t, open(t, cluster.Servers[0].URL))
	if diff := cmp.Diff([]int{3, 3}, replicas()); diff != "" {
		t.Errorf("replicas after a start with one (-want +got):\n%s", diff)
	}
}
