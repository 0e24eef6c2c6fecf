package bus_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// notes is a log that can be looked at while it is written.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) has(text string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return bytes.Contains(n.text.Bytes(), []byte(text))
}

// A node that starts before the cluster has all its servers waits for them.
func TestWaitsForServers(t *testing.T) {
	t.Parallel()
	cluster := nodetest.StartCluster(t)
	cluster.Servers[2].Stop()
	log, ended := &notes{}, make(chan error, 1)
	go func() {
		_, err := tryOpen(t, cluster.Servers[0].URL, replicated, func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		ended <- err
	}()
	nodetest.Eventually(t, patience, "it waits", func() bool { return log.has("no suitable peers") || len(ended) > 0 })
	cluster.Servers[2].Start()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
