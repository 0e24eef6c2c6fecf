package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// readiness says why this node should get no traffic. /readyz, /health and the gRPC
// health service all ask it.
type readiness struct {
	log     *slog.Logger
	changed func(ready bool) // called with mu held when the answer changes

	mu    sync.Mutex
	why   []string
	fixed string // overrides why: starting, draining
}

func newReadiness(logger *slog.Logger) *readiness {
	return &readiness{log: logger, fixed: "starting", changed: func(bool) {}}
}

func (r *readiness) reasons() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fixed != "" {
		return []string{r.fixed}
	}
	return slices.Clone(r.why)
}

func (r *readiness) ready() bool { return len(r.reasons()) == 0 }

// fix sets the overriding reason; empty removes it.
func (r *readiness) fix(reason string) {
	r.update(func() { r.fixed = reason })
}

func (r *readiness) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.readyLocked()
	change()
	if after := r.readyLocked(); after != before {
		r.changed(after)
	}
}

func (r *readiness) readyLocked() bool { return r.fixed == "" && len(r.why) == 0 }

// watch asks again and again until ctx ends.
func (r *readiness) watch(ctx context.Context, ask func(context.Context) []string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		askCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
		why := ask(askCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		r.learn(why)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// learn takes an answer, and logs it when it is another one than before.
func (r *readiness) learn(why []string) {
	r.update(func() {
		switch {
		case len(why) > 0 && len(r.why) == 0:
			r.log.Warn("not ready", "reasons", strings.Join(why, "; "))
		case len(why) == 0 && len(r.why) > 0:
			r.log.Info("ready again")
		}
		r.why = why
	})
}
