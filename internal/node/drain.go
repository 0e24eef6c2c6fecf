package node

import (
	"context"
	"os"
	"time"
)

// closeTime is the part of the drain window that closing the last sockets may take.
const closeTime = 2 * time.Second

// Drain begins to move this node's sockets to other nodes, as the end of Run's context
// does, within the time over; 0 means Config.DrainWindow. Afterwards Run returns nil.
// While a drain runs, another one, or the end of the context, makes it end sooner, if
// its own end is sooner. It returns how many sockets are to move, at once; before the
// node is ready and after its drain it does nothing.
func (n *Node) Drain(over time.Duration) (sockets int) {
	gw := n.serving.Load()
	if gw == nil {
		return 0
	}
	if over <= 0 {
		over = n.cfg.DrainWindow
	}
	sockets = gw.Connections()
	select {
	case n.drains <- over:
		return sockets
	case <-n.drained:
		return 0
	}
}

// drain moves the sockets elsewhere before anything stops: readiness off first, so
// that nothing new comes, sockets asked to move and closed, then what is left of the
// calls. The end of ctx makes it take no longer than the drain window.
func (n *Node) drain(ctx context.Context, p *parts, window time.Duration) {
	defer close(n.drained)
	n.ready.fix("draining")
	p.bus.SetDraining()
	if n.cfg.ReadyFile != "" {
		_ = os.Remove(n.cfg.ReadyFile) // nobody waits for it any more
	}
	began := time.Now()
	n.log.Info("draining", "connections", p.gateway.Connections(), "window", window.String())
	cut, cancel := context.WithCancel(context.Background())
	defer cancel()
	calls, sockets := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(calls)
		p.api.Stop(cut) // streams are told at once; new calls go elsewhere
	}()
	go func() {
		defer close(sockets)
		p.gateway.Drain(cut, socketTime(window))
	}()
	by := began.Add(window)
	end := time.NewTimer(window)
	defer end.Stop()
	hasten := func(window time.Duration) {
		if time.Now().Add(window).Before(by) {
			n.log.Info("draining faster", "connections", p.gateway.Connections(), "window", window.String())
			by = time.Now().Add(window)
			end.Reset(window)
			p.gateway.Hasten(socketTime(window))
		}
	}
	for stop := ctx.Done(); calls != nil || sockets != nil; {
		select {
		case <-stop:
			stop = nil
			hasten(n.cfg.DrainWindow)
		case over := <-n.drains:
			hasten(over)
		case <-end.C:
			cancel()
		case <-calls:
			calls = nil
		case <-sockets:
			sockets = nil
		}
	}
	n.log.Info("drained", "duration", time.Since(began).Round(time.Millisecond).String())
}

// socketTime is the part of a drain's window in which the sockets are moved.
func socketTime(window time.Duration) time.Duration {
	return max(window-closeTime, window/2)
}
