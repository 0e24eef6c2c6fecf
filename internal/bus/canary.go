package bus

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	canaryEvery    = 2 * time.Second
	canaryPatience = 5 * time.Second // a live path without a canary for this long is dead
)

// canary is what a node knows of one log's whole way: publish, store, republish, hear.
// Its logStream's mu guards it.
type canary struct {
	number  uint64    // of the newest
	sent    time.Time // when that was
	seen    time.Time // when one last came back; zero = there are none
	through time.Time // when the newest of those that came back in time was sent
}

// startCanaries begins to send a canary through every log and to hear them. On a NATS
// of our own there are none: it is there, or this process is not.
func (b *Bus) startCanaries() error {
	if b.cfg.Embedded != nil {
		return nil
	}
	if _, err := b.live.Subscribe(canaryLive(b.cfg.Node), b.hearCanary); err != nil {
		return fmt.Errorf("subscribe to canaries: %w", err)
	}
	for _, s := range b.streams {
		s.mu.Lock()
		s.canary.seen = time.Now() // the first has its time
		s.mu.Unlock()
	}
	b.wg.Go(b.sendCanaries)
	return nil
}

func (b *Bus) sendCanaries() {
	tick := time.NewTicker(canaryEvery)
	defer tick.Stop()
	for {
		b.sendCanary()
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
	}
}

// sendCanary sends one canary through every log.
func (b *Bus) sendCanary() {
	for _, s := range b.streams {
		s.mu.Lock()
		s.canary.number++
		s.canary.sent = time.Now()
		body := fmt.Appendf(nil, "%s %d", b.members.self.Incarnation, s.canary.number)
		s.mu.Unlock()
		if err := b.pub.Publish(canaryPub(s.policy.Namespace, b.cfg.Node), body); err != nil {
			b.log.Debug("canary", "stream", s.name, "err", err)
		}
	}
}

// hearCanary takes a canary that has come back.
func (b *Bus) hearCanary(msg *nats.Msg) {
	incarnation, number, _ := strings.Cut(string(msg.Data), " ")
	if incarnation != b.members.self.Incarnation {
		return
	}
	name := headerValue(msg.Header, nats.JSStream)
	for _, s := range b.streams {
		if s.name != name {
			continue
		}
		now := time.Now()
		s.mu.Lock()
		s.canary.seen = now
		newest := number == strconv.FormatUint(s.canary.number, 10)
		took := now.Sub(s.canary.sent)
		if newest {
			s.canary.through = s.canary.sent
		}
		s.mu.Unlock()
		if newest {
			b.cfg.Metrics.CanarySeconds.Set(took.Seconds())
			b.members.prove(now)
		}
	}
}

// silence returns for how long no canary has come back; 0 if there are none.
func (s *logStream) silence(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.canary.seen.IsZero() {
		return 0
	}
	return now.Sub(s.canary.seen)
}

// through reports whether every log has taken and republished something that was sent
// after a moment: then this node is not cut off with a smaller part of NATS.
func (b *Bus) through(since time.Time) bool {
	for _, s := range b.streams {
		s.mu.Lock()
		ok := s.canary.seen.IsZero() || s.canary.through.After(since)
		s.mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}
