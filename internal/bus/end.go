package bus

import (
	"context"
	"fmt"
)

// endSubject is where a node writes to find out where a log ends. It has a token more
// than a room's, so that it does not pass for one.
func endSubject(namespace string) string { return pubPrefix + namespace + ".~.end.0" }

// isAbove reports whether a sequence lies above a log's end, which says that the log has
// lost it. In a cluster a server may take itself for the leader while another leads,
// such as after a pause or behind a partition, and answer with the end that it knows. It
// cannot store anything, so a message that is stored tells the true end: what is not
// above that is asked again. One such message is under way at a time.
func (b *Bus) isAbove(ctx context.Context, s *logStream, info logInfo, seq uint64) (bool, error) {
	if seq <= info.last || info.leader == "" {
		return seq > info.last, nil
	}
	select {
	case b.ends <- struct{}{}:
		defer func() { <-b.ends }()
	case <-ctx.Done():
		return false, unavailable(ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ack, err := b.js.Publish(ctx, endSubject(s.policy.Namespace), nil)
	if err != nil {
		return false, unavailable(fmt.Errorf("where the log ends: %w", err))
	}
	if ack.Sequence > seq {
		return false, unavailable(fmt.Errorf("the log's leader answered with sequence %d after it had come to %d", info.last, ack.Sequence))
	}
	return true, nil
}
