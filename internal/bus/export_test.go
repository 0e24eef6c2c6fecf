package bus

import (
	"context"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
)

const (
	ProofPause  = proofPause
	MemberLease = memberLease
)

// IsAbove is isAbove after a server that leads no more has told where the log ends.
func (b *Bus) IsAbove(ctx context.Context, namespace string, told, seq uint64) (bool, error) {
	return b.isAbove(ctx, b.streams[namespace], logInfo{last: told, leader: "was"}, seq)
}

// Renew is what follows an answer that the log ends below a sequence that it has had.
func (b *Bus) Renew(ctx context.Context, namespace string, seen uint64) error {
	s := b.streams[namespace]
	return b.tryRenew(ctx, s, s.knownEpoch(), seen)
}

// HearQuestion is what NATS calls when another node asks.
func (b *Bus) HearQuestion(kind string) error {
	body, err := proto.Marshal(&busv1.Ask{WithinMs: 1000})
	b.asks.serve(kind, &nats.Msg{Subject: askPrefix + kind, Reply: "another", Data: body}, make(chan struct{}, 1))
	return err
}

// Poke has the node tell the others of itself now.
func (b *Bus) Poke() { b.members.wake() }
