package nodetest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// clusterSize is how many servers a cluster has: the smallest with a quorum.
const clusterSize = 3

// Cluster is a cluster of nats-servers in this process, whose routes go through
// proxies that can hold them back.
type Cluster struct {
	Servers []*NATS
	*Routes
	t testing.TB
}

// StartCluster starts three servers and waits until they have a leader. They end
// with the test.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t, Routes: startRoutes(t, clusterSize)}
	for i := range clusterSize {
		opts := natsOptions(t.TempDir(), freePort(t))
		opts.ServerName = serverName(i)
		opts.Cluster = server.ClusterOpts{Name: "nodetest", Host: "127.0.0.1", Port: freePort(t), Advertise: c.address(i)}
		for j := range clusterSize {
			if j != i {
				opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: c.address(j)})
			}
		}
		n := &NATS{t: t, opts: opts}
		n.Start()
		t.Cleanup(n.Stop)
		c.lead(i, n.Server.ClusterAddr().String())
		c.Servers = append(c.Servers, n)
	}
	Eventually(t, patience, "the cluster has a leader", func() bool {
		leads := false
		for _, n := range c.Servers {
			if !n.Server.JetStreamIsCurrent() {
				return false
			}
			leads = leads || len(n.Server.JetStreamClusterPeers()) == clusterSize // the leader lists them
		}
		return leads
	})
	return c
}

// serverName is the name of a cluster's i-th server.
func serverName(i int) string { return fmt.Sprintf("s%d", i) }

// MoveLeader makes the i-th server the leader of a stream.
func (c *Cluster) MoveLeader(stream string, i int) {
	c.t.Helper()
	nc := c.Servers[i].Connect(c.t)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	Eventually(c.t, patience, "server "+serverName(i)+" leads "+stream, func() bool {
		s, err := js.Stream(c.t.Context(), stream)
		if err != nil {
			return false
		}
		info := s.CachedInfo()
		if info.Cluster == nil || info.Cluster.Leader == "" {
			return false
		}
		if info.Cluster.Leader == serverName(i) {
			return true
		}
		body := fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, serverName(i))
		_, err = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, body, 5*time.Second)
		if err != nil {
			c.t.Log("step down:", err)
		}
		return false
	})
}

// AwaitReplica waits until the i-th server itself answers its clients' reads of a
// stream and has the message at seq. Until seconds after a start it leaves them to
// another server. What was held is released.
func (c *Cluster) AwaitReplica(stream string, i int, seq uint64) {
	c.t.Helper()
	nc := c.Servers[i].Connect(c.t)
	for j := range c.Servers {
		if j != i {
			c.Hold(i, j, false) // nobody else is asked
		}
	}
	defer c.Release()
	wait := 50 * time.Millisecond
	Eventually(c.t, patience, "server "+serverName(i)+" answers reads of "+stream, func() bool {
		wait = min(2*wait, time.Second)
		msg, err := nc.Request("$JS.API.DIRECT.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, seq), wait)
		return err == nil && msg.Header.Get("Status") == ""
	})
}

// Isolate holds back what the i-th server and the others tell each other of the logs:
// it falls behind, and disturbs nobody by an election. Clients' messages go on.
func (c *Cluster) Isolate(i int) {
	for j := range c.Servers {
		if j != i {
			c.Hold(i, j, true)
			c.Hold(j, i, true)
		}
	}
}
