package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/room"
)

// errWrongLast is JetStream's code for a subject that has a message already.
const errWrongLast = 10071

// sawSeq notes that the log has had a sequence.
func (s *logStream) sawSeq(seq uint64) {
	for {
		seen := s.seen.Load()
		if seq <= seen || s.seen.CompareAndSwap(seen, seq) {
			return
		}
	}
}

// renewSubject is where the nodes agree on what follows an epoch.
func renewSubject(namespace, epoch string) string {
	return pubPrefix + namespace + ".~.epoch." + epoch
}

// renew gives a log another epoch that ends below what this node has seen of it: an
// older copy was put back, or a crash took its tail. Its sequences are used again, so
// no position of the old epoch may count any more. One node at a time, in the
// background.
func (b *Bus) renew(s *logStream, info logInfo, seen uint64) {
	if b.ctx.Err() != nil || !s.renewing.CompareAndSwap(false, true) {
		return
	}
	b.log.Error("the log ends below what it has held; every subscriber of the namespace gets RESET",
		"stream", s.name, "epoch", info.epoch, "last", info.last, "seen", seen)
	b.spawn(func() {
		defer s.renewing.Store(false)
		ctx, cancel := context.WithTimeout(b.ctx, apiTimeout)
		defer cancel()
		if err := b.tryRenew(ctx, s, info.epoch, seen); err != nil {
			b.log.Warn("new epoch", "stream", s.name, "err", err) // the next look at the log tries again
		}
	})
}

// tryRenew has the log itself decide which node draws the new epoch: the first to
// store one behind the old. The others take that one, so it does not matter who
// writes it into the stream's metadata, nor how often. First the log must give a sequence
// again that it has had.
func (b *Bus) tryRenew(ctx context.Context, s *logStream, old string, seen uint64) error {
	end, err := b.provenEnd(ctx, s)
	if err != nil {
		return err
	}
	if end > seen {
		// The answer came from a server that no longer leads: the log goes on above.
		// Or it has been written past there already: then the checks of positions tell.
		b.log.Warn("the log has come past what it had held; its rooms are looked at", "stream", s.name)
		s.audit.soon(0)
		for _, sh := range b.shards {
			sh.post((*shard).resyncAll)
		}
		s.sawSeq(end)
		return nil
	}
	subject, epoch := renewSubject(s.policy.Namespace, old), newEpoch()
	_, err = b.js.Publish(ctx, subject, []byte(epoch), jetstream.WithExpectLastSequencePerSubject(0))
	if api, refused := errors.AsType[*jetstream.APIError](err); refused && api.ErrorCode == errWrongLast {
		epoch, err = b.renewedEpoch(ctx, s, subject)
	}
	if err != nil {
		return err
	}
	stream, err := b.js.Stream(ctx, s.name)
	if err != nil {
		return err
	}
	cfg := stream.CachedInfo().Config
	if cfg.Metadata[metaEpoch] == old {
		cfg.Metadata = maps.Clone(cfg.Metadata)
		cfg.Metadata[metaEpoch] = epoch
		if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
			return err
		}
	}
	_, err = b.streamInfo(ctx, s) // notes the epoch
	return err
}

// renewedEpoch reads what another node has drawn.
func (b *Bus) renewedEpoch(ctx context.Context, s *logStream, subject string) (string, error) {
	stream, err := b.js.Stream(ctx, s.name)
	if err != nil {
		return "", err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subject)
	if err != nil {
		return "", err
	}
	epoch := string(msg.Data)
	if _, err := room.ParsePosition(epoch+".1.", "epoch"); err != nil {
		return "", fmt.Errorf("%s holds no epoch: %w", subject, err)
	}
	return epoch, nil
}
