package bus

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A watermark is proven while the log begins at or before it. The log's first message
// may be of a busy room, which pushes it out soon and would take the proof from all
// quiet rooms. So now and then the nodes store a message whose subject never gets
// another: it leaves with its age, and the log begins no later than the oldest of them.
const (
	anchorsKept  = 64 // about so many are in a log
	anchorMin    = time.Minute
	anchorLooks  = time.Minute // between looks at the clock
	anchorWindow = time.Second // for storing one
)

// anchorEvery is how often a log gets an anchor.
func (s *logStream) anchorEvery() time.Duration {
	return max(s.policy.History.TTL/anchorsKept, anchorMin)
}

// anchorSubject is where an anchor is stored: another one for each stretch of time, so
// that the nodes together store one.
func (s *logStream) anchorSubject(now time.Time) string {
	slot := now.UnixNano() / int64(s.anchorEvery())
	return pubPrefix + s.policy.Namespace + ".~.anchor." + strconv.FormatInt(slot, 36)
}

func (b *Bus) keepAnchors() {
	tick := time.NewTicker(anchorLooks)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
		for _, s := range b.streams {
			b.anchor(b.ctx, s)
		}
	}
}

// anchor stores the anchor of this stretch of time, unless it is there.
func (b *Bus) anchor(ctx context.Context, s *logStream) {
	subject := s.anchorSubject(time.Now())
	if subject == s.anchored {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, anchorWindow)
	defer cancel()
	_, err := b.js.Publish(ctx, subject, nil, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithRetryAttempts(0))
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == errWrongLast {
		err = nil // another node was faster
	}
	if err != nil {
		b.log.Debug("anchor", "stream", s.name, "err", err)
		return
	}
	s.anchored = subject
}
