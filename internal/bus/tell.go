package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

const tellPrefix = "rc.ctl.room."

// tellSubject is where nodes tell each other of a room.
func tellSubject(name room.Name) string {
	var buf [maxSubject]byte
	return string(roomTail(append(buf[:0], tellPrefix...), name))
}

// Tell tells the nodes that [Bus.Hear] a room, this one too, at most once each, in this
// node's order. It does not wait; what is told while NATS is away is lost.
func (b *Bus) Tell(name room.Name, body []byte) {
	if err := b.ctl.Publish(tellSubject(name), body); err != nil {
		b.log.Debug("tell", "room", name, "err", err)
	}
}

// Hear calls heard with what nodes tell of a room, one call at a time. A node that is
// asked anything after Hear has returned is heard from its answer on. heard may still be
// called once while stop runs.
func (b *Bus) Hear(ctx context.Context, name room.Name, heard func(body []byte)) (stop func(), err error) {
	sub, err := b.ctl.Subscribe(tellSubject(name), func(msg *nats.Msg) { heard(msg.Data) })
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		err = b.ctl.FlushWithContext(ctx)
	}
	if err != nil {
		if sub != nil {
			_ = sub.Unsubscribe() // fails only with the connection gone
		}
		return nil, &room.Error{
			Kind: room.Unavailable, Reason: room.ReasonBusUnavailable, Msg: "the bus does not answer",
			Err: fmt.Errorf("hear %q: %w", name, err),
		}
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
