package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestGreeterIsNoWorker: who greets and waits for a room of the URL makes no place for
// one more worker, of which there are few for the sake of storms.
func TestGreeterIsNoWorker(t *testing.T) {
	t.Parallel()
	inBubble(t, func(_ *Config, b *bus) { b.silent = true }, func(w *world) {
		p := w.dial("?room=x", token(w.t, "ann", time.Hour, "x"))
		p.want("welcome ann")
		synctest.Wait()
		w.gw.workers.mu.Lock()
		defer w.gw.workers.mu.Unlock()
		if running, blocked := w.gw.workers.running, w.gw.workers.blocked; blocked > running {
			w.t.Errorf("%d workers wait, of %d", blocked, running)
		}
	})
}
