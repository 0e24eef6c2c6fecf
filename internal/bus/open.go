package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

// open begins to hear a room: subscribe, make sure that the server has taken note,
// and only then ask the log's leader where the room stands. Whatever is stored after
// that answer reaches the subscription; whatever before it is below the head. It
// tries until the interest ends.
func (b *Bus) open(lr *liveRoom, s *shard) {
	backoff := 50 * time.Millisecond
	for {
		select {
		case b.joins <- struct{}{}:
		case <-lr.ctx.Done():
			return
		}
		sub, head, err := b.tryOpen(lr, s)
		<-b.joins
		if err == nil {
			s.post(func(s *shard) { s.opened(lr, sub, head) })
			return
		}
		if lr.ctx.Err() != nil {
			return
		}
		b.log.Debug("open room", "room", lr.log.name, "err", err, "retry", backoff.String())
		select {
		case <-lr.ctx.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, 2*time.Second)
	}
}

func (b *Bus) tryOpen(lr *liveRoom, s *shard) (_ *nats.Subscription, head room.Position, err error) {
	sub, err := b.live.ChanSubscribe(lr.subject, s.in)
	if err != nil {
		return nil, head, err
	}
	defer func() {
		if err != nil {
			_ = sub.Unsubscribe() // the connection may be away; a reconnect does not bring it back then
		}
	}()
	ctx, cancel := context.WithTimeout(lr.ctx, apiTimeout)
	defer cancel()
	if err = b.live.FlushWithContext(ctx); err != nil {
		return nil, head, err
	}
	if lr.log.stream == nil {
		return sub, head, nil
	}
	head, err = b.headOf(ctx, lr.log)
	return sub, head, err
}
