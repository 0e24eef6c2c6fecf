package node

import (
	"context"
	"time"
)

// What counts as a storm of sockets, and when it is over.
const (
	stormTick  = 5 * time.Second
	stormSize  = 1000 // sockets opened and closed since memory was last given back
	stormQuiet = 100  // in one tick: then it is over
)

// afterStorms calls release once after each storm, until ctx ends. Opening a socket
// leaves several times what the socket keeps as garbage, and the collector's pace
// allows as much again as lives: without this a node that has taken a storm would hold
// twice its memory for as long as it then is idle. A collection and its scavenging
// cost some 3 µs a socket. turnover counts sockets opened and closed.
func afterStorms(ctx context.Context, turnover func() uint64, release func()) {
	tick := time.NewTicker(stormTick)
	defer tick.Stop()
	released, before := turnover(), turnover()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := turnover()
		if now-released >= stormSize && now-before <= stormQuiet {
			release()
			released = now
		}
		before = now
	}
}
