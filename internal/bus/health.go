package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// degradedAfter is how long something must be wrong before sockets are told.
const degradedAfter = 5 * time.Second

// ailing says since when something has been wrong with the bus.
type ailing struct {
	mu    sync.Mutex
	since time.Time // guarded by mu; zero = nothing is
}

// Ready says why the bus cannot serve, or must not beside the other nodes; empty
// means that it can. It asks each stream for a leader, so it takes a round trip. The
// node asks every second: that is also how a change of leader is noticed.
func (b *Bus) Ready(ctx context.Context) []string {
	now := time.Now()
	faults := b.faults(ctx, now)
	b.ailing.mu.Lock()
	switch {
	case len(faults) == 0:
		b.ailing.since = time.Time{}
	case b.ailing.since.IsZero():
		b.ailing.since = now
	}
	b.ailing.mu.Unlock()
	return append(faults, b.members.disagreements(now)...)
}

// Degraded reports whether messages have come late, or may have, for more than a few
// seconds: it is how [Bus.Ready] has found the bus, nodes that disagree left out.
func (b *Bus) Degraded() bool {
	for _, s := range b.streams {
		if s.silence(time.Now()) > canaryPatience {
			return true
		}
	}
	b.ailing.mu.Lock()
	defer b.ailing.mu.Unlock()
	return !b.ailing.since.IsZero() && time.Since(b.ailing.since) >= degradedAfter
}

// faults says what is wrong with the bus.
func (b *Bus) faults(ctx context.Context, now time.Time) []string {
	var away []string
	for name, nc := range map[string]*nats.Conn{"ctl": b.ctl, "pub": b.pub, "live": b.live} {
		if !nc.IsConnected() {
			away = append(away, name)
		}
	}
	if len(away) > 0 {
		slices.Sort(away)
		return []string{"nats is not connected: " + strings.Join(away, ", ")}
	}
	var reasons []string
	if silence := b.revoked.silence(now); silence > revokedPatience {
		reasons = append(reasons, fmt.Sprintf("revoked tokens cannot be read for %s", silence.Round(time.Second)))
	}
	for _, policy := range b.cfg.Policies.All() {
		s := b.streams[policy.Namespace]
		if s == nil {
			continue
		}
		if _, err := b.streamInfo(ctx, s); err != nil {
			reasons = append(reasons, fmt.Sprintf("log of namespace %q: %v", policy.Namespace, err))
		}
		if silence := s.silence(now); silence > canaryPatience {
			reasons = append(reasons, fmt.Sprintf("messages of namespace %q do not come through: the canary has not come back for %s",
				policy.Namespace, silence.Round(time.Second)))
		}
	}
	return reasons
}
