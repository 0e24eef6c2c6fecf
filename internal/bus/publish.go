package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"

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
	if err := b.contest(p.Room); err != nil {
		return room.Ack{}, err
	}
	policy := b.cfg.Policies.Of(p.Room)
	if !policy.Stored() {
		return b.publishEphemeral(p, policy)
	}
	select {
	case b.window <- struct{}{}:
		defer func() { <-b.window }()
	default:
		return room.Ack{}, busy()
	}
	result := make(chan published, 1)
	c := b.newCall(ctx, p, policy, func(ack room.Ack, err error) { result <- published{ack, err} })
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
	body, id := encodeEphemeral(p, time.Now())
	if err := b.pub.Publish(liveSubject(p.Room, policy), body); err != nil {
		return room.Ack{}, unavailable(err)
	}
	ack := room.Ack{ID: id}
	b.traceStore(p, ack)
	return ack, nil
}

// traceStore leaves the trace of hop 2.
func (b *Bus) traceStore(p *room.Publication, ack room.Ack) {
	if b.log.Enabled(b.ctx, slog.LevelDebug) {
		b.log.Debug("store", "hop", 2, "room", p.Room, "id", ack.ID, "stored", ack.Stored, "duplicate", ack.Duplicate)
	}
}

// call is one publication until its outcome is known.
type call struct {
	// static
	ctx      context.Context //nolint:containedctx // the caller's, for the life of the call
	pub      *room.Publication
	stream   *logStream
	keyed    bool                  // the caller gave a message id
	hold     time.Time             // until then it waits for a connection that is away; zero = until ctx ends
	sequence *Sequence             // it has a place in; nil = none
	done     func(room.Ack, error) // called once, see complete

	// static once it has started
	subject string
	msgID   string
	began   time.Time

	// guarded by publisher.mu
	body    []byte    // ends with the newest attempt's check
	tries   []try     // those that may have been stored, newest last
	first   [1]try    // where tries begins
	due     time.Time // when to act: the attempt has timed out, or a retry is due
	backoff time.Duration
	newest  uint64 // the token of the newest attempt
	looking bool   // a duplicate's record is being read
	lastErr error  // why the newest attempt could not be sent
	ended   bool
}

// unsure reports whether the message may be stored. The publisher's mu guards it.
func (c *call) unsure() bool { return len(c.tries) > 0 }

// checkOf returns the check of an attempt. The publisher's mu guards it.
func (c *call) checkOf(token uint64) uint32 {
	for _, t := range c.tries {
		if t.token == token {
			return t.check
		}
	}
	return 0
}

// try is one attempt.
type try struct {
	token uint64
	check uint32
}

func (b *Bus) newCall(ctx context.Context, p *room.Publication, policy *room.Policy, done func(room.Ack, error)) *call {
	return &call{ctx: ctx, pub: p, stream: b.streams[policy.Namespace], keyed: p.MessageID != "", done: done}
}

// prepare encodes the call's message once.
func (c *call) prepare(now time.Time) {
	c.began, c.backoff, c.tries = now, firstBackoff, c.first[:0]
	c.subject = pubSubject(c.pub.Room, &c.stream.policy)
	c.body = encodeRecord(c.pub, now)
	if c.keyed {
		c.msgID = msgID(c.pub.Room, c.pub.MessageID)
	} else {
		c.msgID = newMsgID()
	}
}

// complete tells the outcome. It must be called once, without publisher.mu.
func (c *call) complete(ack room.Ack, err error) {
	if c.sequence != nil {
		c.sequence.ended(c)
	}
	c.done(ack, err)
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
