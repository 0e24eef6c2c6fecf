package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	barrierSubject = "rc.ctl.barrier"
	barrierTimeout = time.Second // a link that is slower than that is left to the audit
	barrierRetry   = 10 * time.Millisecond
	errNotStream   = 10060 // JetStream: the expected stream is another one
)

// leaderBarrier makes sure that what the live connection has subscribed to is known at
// the server that leads a stream. Interest reaches it on the route of our account, but
// the answers of JetStream's API come on another one and may be faster (ADR 0006). So
// a message goes the way of the subscriptions, behind them, to the stream itself. It
// expects another stream: the leader refuses it, which stores nothing and needs no
// quorum. A leader that is new may not be known at our server yet: it is asked again.
func (b *Bus) leaderBarrier(ctx context.Context, s *logStream) error {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	msg := nats.NewMsg(canaryPub(s.policy.Namespace, b.cfg.Node))
	msg.Header[nats.ExpectedStreamHdr] = []string{"~"}
	reply, err := b.live.RequestMsgWithContext(ctx, msg)
	for errors.Is(err, nats.ErrNoResponders) {
		select {
		case <-time.After(barrierRetry):
			reply, err = b.live.RequestMsgWithContext(ctx, msg)
		case <-ctx.Done():
			return fmt.Errorf("barrier: %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	var answer apiResponse
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	if answer.Error == nil || answer.Error.ErrCode != errNotStream {
		return fmt.Errorf("barrier: the leader answered %s", reply.Data)
	}
	return nil
}

// passBarriers waits until every log's leader knows what the live connection has
// subscribed to again.
func (b *Bus) passBarriers() {
	if !b.clustered() {
		return
	}
	for _, s := range b.streams {
		if err := b.leaderBarrier(b.ctx, s); err != nil {
			b.log.Warn("no barrier after reconnect", "stream", s.name, "err", err) // left to the audit
		}
	}
}

// nodesBarrier makes sure that what the live connection has subscribed to is known at
// the servers from which an ephemeral room's messages come: those of every live node's
// publish connection, our own among them. A node that has just died costs the whole
// timeout.
func (b *Bus) nodesBarrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	waiting := make(map[string]bool)
	for _, m := range b.Members() {
		waiting[m.Incarnation] = true
	}
	inbox := b.live.NewRespInbox()
	replies := make(chan *nats.Msg, 4*len(waiting))
	sub, err := b.live.ChanSubscribe(inbox, replies)
	if err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection gone
	if err := b.live.PublishRequest(barrierSubject, inbox, nil); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	for len(waiting) > 0 {
		select {
		case msg := <-replies:
			delete(waiting, string(msg.Data))
		case <-ctx.Done():
			return fmt.Errorf("barrier: %d nodes did not answer", len(waiting))
		}
	}
	return nil
}

// answerBarriers answers the barriers of all nodes.
func (b *Bus) answerBarriers() error {
	incarnation := []byte(b.members.self.Incarnation)
	_, err := b.pub.Subscribe(barrierSubject, func(msg *nats.Msg) {
		if err := msg.Respond(incarnation); err != nil {
			b.log.Debug("answer barrier", "err", err)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to barriers: %w", err)
	}
	return nil
}
