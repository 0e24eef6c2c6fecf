package nodetest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/node"
)

// Key signs the tokens that nodes of tests accept.
const Key = "nodetest-key-nodetest-key-nodetest-key"

// Node is a real node in this process.
type Node struct {
	node.Addrs
	t      testing.TB
	made   *node.Node
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run; valid once done is closed
}

// Config is what a test changes of a node's configuration.
type Config = func(*node.Config)

// Start starts count nodes and waits until they are ready. Without a change they
// run in development mode with an embedded NATS each; see [OnNATS]. They end with
// the test.
func Start(t testing.TB, count int, changes ...Config) []*Node {
	t.Helper()
	nodes := make([]*Node, count)
	for i := range nodes {
		nodes[i] = StartOne(t, NewConfig(t, i+1, changes...))
	}
	return nodes
}

// NewConfig is the configuration of the n-th node that [Start] starts.
func NewConfig(t testing.TB, n int, changes ...Config) node.Config {
	t.Helper()
	cfg := node.Config{
		Node:         fmt.Sprintf("n%d", n),
		Version:      "test",
		HTTPAddr:     "127.0.0.1:0",
		GRPCAddr:     "127.0.0.1:0",
		AdminAddr:    "127.0.0.1:0",
		Dev:          true,
		Reflection:   true,
		Auth:         auth.Config{DevKey: []byte(Key)},
		DataDir:      t.TempDir(),
		PingInterval: time.Hour, // a socket that the test does not read stays
		DrainWindow:  time.Second,
	}
	for _, change := range changes {
		change(&cfg)
	}
	return cfg
}

// OnNATS makes nodes use an external NATS.
func OnNATS(url string) Config {
	return func(c *node.Config) { c.NATS.URL = url }
}

// StartOne starts one node, which logs to the test, and waits until it is ready.
func StartOne(t testing.TB, cfg node.Config) *Node {
	t.Helper()
	return StartLogging(t, cfg, slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// StartLogging is [StartOne] with a log of the test's own.
func StartLogging(t testing.TB, cfg node.Config, logs slog.Handler) *Node {
	t.Helper()
	n := &Node{t: t, done: make(chan struct{})}
	ready := make(chan node.Addrs, 1)
	cfg.OnReady = func(a node.Addrs) { ready <- a }
	made, err := node.New(cfg, slog.New(logs))
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	n.made = made
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		n.err = made.Run(ctx)
	}()
	select {
	case n.Addrs = <-ready:
	case <-n.done:
		t.Fatalf("node: %v", n.err)
	case <-time.After(startTime):
		t.Fatalf("node is not ready after %s", startTime)
	}
	t.Cleanup(func() { _ = n.Stop() })
	return n
}

// Stop drains the node and returns what its Run returned. It may be called again.
func (n *Node) Stop() error {
	n.cancel()
	<-n.done
	return n.err
}

// Drain is the node's own; Stop waits for its end.
func (n *Node) Drain(over time.Duration) (sockets int) { return n.made.Drain(over) }

// Done is closed when the node's Run has returned.
func (n *Node) Done() <-chan struct{} { return n.done }

// Dial opens a gRPC connection to the node. It ends with the test.
func (n *Node) Dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(n.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// SocketURL is where the node's WebSockets are.
func (n *Node) SocketURL() string { return "ws://" + n.HTTP + "/v1/ws" }

// testLog sends a node's log to the test's until the test has ended.
type testLog struct {
	t    testing.TB
	once sync.Once
	mu   sync.Mutex
	over bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.once.Do(func() {
		l.t.Cleanup(func() {
			l.mu.Lock()
			l.over = true
			l.mu.Unlock()
		})
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.t.Log(string(p[:len(p)-1]))
	}
	return len(p), nil
}
