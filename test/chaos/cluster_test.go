package chaos

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// policies are what the nodes of a run keep: everything, and in rooms "short:*" so
// little that who is away for a while loses his place.
const (
	keepsAll   = 20_000
	keepsShort = 20
	policies   = `namespaces:
  default: {history: {size: 20000}}
  short: {history: {size: 20}}
`
)

// streams are the logs of the policies.
func streams() []string { return []string{"RC_default", "RC_short"} }

func streamOf(room string) string {
	if strings.HasPrefix(room, "short:") {
		return "RC_short"
	}
	return "RC_default"
}

func keeps(room string) int {
	if strings.HasPrefix(room, "short:") {
		return keepsShort
	}
	return keepsAll
}

// cluster is three nats-servers and three nodes, each a process of its own. Each node
// reaches each server through a proxy, so that its connections can be cut.
type cluster struct {
	t       testing.TB
	dir     string // of all that the processes write
	servers []*server
	nodes   []*node
}

type server struct {
	*process
	url string
}

type node struct {
	*process
	http, grpc, admin string
	ready             string // path
	proxies           []*nodetest.Proxy
}

// startCluster starts the servers and, once they are a cluster, the nodes. Everything
// ends with the test; its files stay if the test fails.
func startCluster(t testing.TB, program, dir string, loseEvery int) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: dir}
	t.Cleanup(c.stop)
	routes := make([]string, clusterSize)
	for i := range routes {
		routes[i] = freeAddr(t)
	}
	for i := range clusterSize {
		c.servers = append(c.servers, c.newServer(i, routes))
		c.servers[i].start()
	}
	nodetest.Eventually(t, patience, "the nats-servers are a cluster", c.servesAPI)
	config := c.write("config.yaml", policies)
	for i := range clusterSize {
		c.nodes = append(c.nodes, c.newNode(i, program, config, loseEvery))
		c.nodes[i].start()
	}
	for _, n := range c.nodes {
		n.until("it is ready", n.isReady)
	}
	return c
}

func (c *cluster) write(name, text string) (path string) {
	c.t.Helper()
	path = filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func (c *cluster) newServer(i int, routes []string) *server {
	c.t.Helper()
	name, addr := fmt.Sprintf("s%d", i+1), freeAddr(c.t)
	config := c.write(name+".conf", fmt.Sprintf(`
server_name: %s
listen: %q
jetstream: {store_dir: %q}
cluster: {name: chaos, listen: %q, no_advertise: true, routes: ["nats://%s"]}
`, name, addr, filepath.Join(c.dir, name), routes[i], strings.Join(routes, `", "nats://`)))
	p := &process{t: c.t, name: name, log: filepath.Join(c.dir, name+".log"), program: built.nats, args: []string{"-c", config}}
	return &server{process: p, url: "nats://" + addr}
}

func (c *cluster) newNode(i int, program, config string, loseEvery int) *node {
	c.t.Helper()
	name := fmt.Sprintf("n%d", i+1)
	n := &node{http: freeAddr(c.t), grpc: freeAddr(c.t), admin: freeAddr(c.t), ready: filepath.Join(c.dir, name+".ready")}
	var urls []string
	for j := range c.servers {
		p := nodetest.StartProxy(c.t, c.servers[(i+j)%clusterSize].url, "rc.live.", loseEvery)
		n.proxies, urls = append(n.proxies, p), append(urls, p.URL)
	}
	n.process = &process{t: c.t, name: name, log: filepath.Join(c.dir, name+".log"), program: program, args: []string{
		"serve", "--dev", "--node", name, "--config", config, "--nats-url", strings.Join(urls, ","), "--nats-replicas", "3",
		"--http-addr", n.http, "--grpc-addr", n.grpc, "--admin-addr", n.admin, "--ready-file", n.ready, "--log-level", "info",
	}}
	return n
}

// servesAPI reports whether JetStream's API answers: there is a leader.
func (c *cluster) servesAPI() bool {
	nc, err := nats.Connect(c.servers[0].url, nats.Timeout(time.Second))
	if err != nil {
		return false
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Second))
	if err != nil {
		return false
	}
	_, err = js.AccountInfo(c.t.Context())
	return err == nil
}

// isReady asks the node itself.
func (n *node) isReady() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + n.admin + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// connect opens a connection to the cluster that does not go through the proxies.
func (c *cluster) connect() *nats.Conn {
	c.t.Helper()
	var urls []string
	for _, s := range c.servers {
		urls = append(urls, s.url)
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// heal brings everything back and waits until it is well.
func (c *cluster) heal() {
	c.t.Helper()
	for _, p := range c.processes() {
		p.signal(syscall.SIGCONT)
		if !p.running() {
			p.start()
		}
	}
	for _, n := range c.nodes {
		for _, p := range n.proxies {
			p.Heal()
		}
	}
	for _, n := range c.nodes {
		n.until("it is ready again", n.isReady)
	}
}

func (c *cluster) processes() (all []*process) {
	for _, s := range c.servers {
		all = append(all, s.process)
	}
	for _, n := range c.nodes {
		all = append(all, n.process)
	}
	return all
}

func (c *cluster) stop() {
	for _, p := range c.processes() {
		if p.cmd != nil {
			p.kill()
		}
	}
}
