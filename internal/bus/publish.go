package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

// Publish is hop 2: it stores a publication in its room's log and answers once the
// log has acknowledged it, retrying under the same message id across a leader change
// until ctx ends, at most 90 s: the log knows message ids for two minutes. Calls are independent of each other; for order use a [Sequence].
//
// Errors: Exhausted when too many publications wait or the log is full, Unavailable
// when the message is known not to be stored (after a second without a connection),
// Deadline when that is not known. After
// the last two it is safe to publish again with the same message id. The publication
// must have passed its Check.
func (b *Bus) Publish(ctx context.Context, p *room.Publication) (room.Ack, error) {
	policy := b.cfg.Policies.Of(p.Room)
	if !policy.Stored() {
		return b.publishEphemeral(p, &policy)
	}
	select {
	case b.window <- struct{}{}:
		defer func() { <-b.window }()
	default:
		return room.Ack{}, busy()
	}
	result := make(chan published, 1)
	c := b.newCall(ctx, p, &policy, func(ack room.Ack, err error) { result <- published{ack, err} })
	c.hold = time.Now().Add(unaryHold)
	b.acks.start(c)
	r := <-result // the sweeper ends it with ctx at the latest
	return r.ack, r.err
}

type published struct {
	ack room.Ack
	err error
}

// publishEphemeral sends to the nodes that have the room now. Nobody acknowledges.
func (b *Bus) publishEphemeral(p *room.Publication, policy *room.Policy) (room.Ack, error) {
	body, id, err := encodeEphemeral(p, time.Now())
	if err != nil {
		return room.Ack{}, err
	}
	if err := b.pub.Publish(subjectsOf(p.Room, policy).live, body); err != nil {
		return room.Ack{}, unavailable(err)
	}
	b.log.Debug("store", "hop", 2, "room", p.Room, "id", id, "stored", false)
	return room.Ack{ID: id}, nil
}

// call is one publication until its outcome is known.
type call struct {
	// static
	ctx    context.Context //nolint:containedctx // the caller's, for the life of the call
	pub    *room.Publication
	stream *logStream
	keyed  bool      // the caller gave a message id
	hold   time.Time // until then it waits for a connection that is away; zero = until ctx ends
	done   func(room.Ack, error)

	// guarded by publisher.mu
	msg     *nats.Msg // body ends with the newest attempt's check
	tries   []try     // those that may have been stored, newest last
	due     time.Time // when to act: the attempt has timed out, or a retry is due
	backoff time.Duration
	newest  uint64    // the token of the newest attempt
	began   time.Time // of the first attempt
	looking bool      // a duplicate's record is being read
	lastErr error     // why the newest attempt could not be sent
	ended   bool
}

// unsure reports whether the message may be stored. The publisher's mu guards it.
func (c *call) unsure() bool { return len(c.tries) > 0 }

// try is one attempt.
type try struct {
	token uint64
	check uint32
}

func (b *Bus) newCall(ctx context.Context, p *room.Publication, policy *room.Policy, done func(room.Ack, error)) *call {
	return &call{ctx: ctx, pub: p, stream: b.streams[policy.Namespace], keyed: p.MessageID != "", done: done}
}

// prepare encodes the call's message once.
func (c *call) prepare() error {
	body, err := encodeRecord(c.pub, time.Now())
	if err != nil {
		return err
	}
	id := newMsgID()
	if c.keyed {
		id = msgID(c.pub.Room, c.pub.MessageID)
	}
	policy := c.stream.policy
	c.msg = &nats.Msg{
		Subject: subjectsOf(c.pub.Room, &policy).pub,
		Header:  nats.Header{nats.MsgIdHdr: []string{id}},
		Data:    body,
	}
	return nil
}

// busy is the error for a full window of unacknowledged publications.
func busy() *room.Error {
	return &room.Error{
		Kind:       room.Exhausted,
		Reason:     room.ReasonBusBusy,
		Msg:        "too many publications wait for the log, slow down",
		RetryAfter: 100 * time.Millisecond,
	}
}

// gaveUp is the error of a call whose time has run out.
func (c *call) gaveUp(cause error) *room.Error {
	if errors.Is(cause, context.Canceled) {
		return &room.Error{Kind: room.Canceled, Reason: room.ReasonCanceled, Msg: "the caller went away", Err: cause}
	}
	if !c.unsure() {
		return unavailable(cause)
	}
	return &room.Error{
		Kind:       room.Deadline,
		Reason:     room.ReasonOutcomeUnknown,
		Msg:        "the log did not acknowledge in time; the message may be stored, try again with the same message id",
		RetryAfter: time.Second,
		Err:        cause,
	}
}
