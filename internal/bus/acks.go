package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

// The publish window and its clock.
const (
	maxUnacked     = 4096                   // unary publications that wait for their acknowledgement
	attemptTimeout = 500 * time.Millisecond // then the same id is sent again
	firstBackoff   = 50 * time.Millisecond  // after "no responders": the log has no leader
	maxBackoff     = 500 * time.Millisecond
	sweepEvery     = 25 * time.Millisecond
	unaryHold      = time.Second           // a unary call waits this long for a connection that is away
	maxCall        = 90 * time.Second      // safely within the log's memory of message ids
	answerMargin   = 50 * time.Millisecond // an outcome is told this long before the deadline
)

// publisher matches acknowledgements to calls. One reply subject serves all: the last
// token of each attempt's reply names the attempt.
type publisher struct {
	bus    *Bus
	prefix string // of reply subjects
	sub    *nats.Subscription
	wg     sync.WaitGroup
	stopc  chan struct{}

	mu      sync.Mutex
	next    uint64
	tries   map[uint64]*call // attempts whose acknowledgement may still come
	calls   map[*call]struct{}
	stopped bool
	out     nats.Msg // the attempt that is being sent; nats.go copies it
	ids     []string // its Nats-Msg-Id
}

func newPublisher(b *Bus) (*publisher, error) {
	p := &publisher{
		bus:    b,
		prefix: b.pub.NewRespInbox() + ".",
		stopc:  make(chan struct{}),
		tries:  make(map[uint64]*call),
		calls:  make(map[*call]struct{}),
		ids:    make([]string, 1),
	}
	p.out.Header = nats.Header{nats.MsgIdHdr: p.ids}
	var err error
	if p.sub, err = b.pub.Subscribe(p.prefix+"*", p.onAck); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	if err := p.sub.SetPendingLimits(-1, -1); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	p.wg.Go(p.sweep)
	return p, nil
}

// start makes a call's first attempt.
func (p *publisher) start(c *call) {
	if err := c.ctx.Err(); err != nil {
		c.complete(room.Ack{}, c.gaveUp(err))
		return
	}
	now := time.Now()
	c.prepare(now)
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		c.complete(room.Ack{}, unavailable(errors.New("the node stops")))
		return
	}
	p.calls[c] = struct{}{}
	p.attemptLocked(c, now)
	p.mu.Unlock()
}

// attemptLocked sends the call's message under a new token and check. It only
// appends to the connection's buffer, or waits at most FlusherTimeout where that is
// full, so it may be called with mu held. Without a connection it is due again soon.
func (p *publisher) attemptLocked(c *call, now time.Time) {
	p.next++
	token, check := p.next, setCheck(c.body)
	var buf [64]byte
	reply := strconv.AppendUint(append(buf[:0], p.prefix...), token, 36)
	p.out.Subject, p.out.Reply, p.out.Data = c.subject, string(reply), c.body
	p.ids[0] = c.msgID
	if err := p.bus.pub.PublishMsg(&p.out); err != nil {
		c.lastErr, c.due = err, now.Add(firstBackoff)
		return
	}
	c.tries, c.newest = append(c.tries, try{token, check}), token
	c.lastErr, c.due = nil, now.Add(attemptTimeout)
	p.tries[token] = c
}

// onAck takes one acknowledgement.
func (p *publisher) onAck(msg *nats.Msg) {
	token, err := strconv.ParseUint(strings.TrimPrefix(msg.Subject, p.prefix), 36, 64)
	if err != nil {
		return
	}
	if headerValue(msg.Header, "Status") == "503" {
		p.noResponders(token)
		return
	}
	if seq, ok := storedAt(msg.Data); ok {
		p.stored(token, seq)
		return
	}
	var ack struct {
		apiResponse
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
	}
	if err := json.Unmarshal(msg.Data, &ack); err != nil {
		p.bus.log.Warn("unreadable acknowledgement", "err", err)
		return
	}
	p.mu.Lock()
	c := p.tries[token]
	p.mu.Unlock()
	switch {
	case c == nil: // late: another attempt was acknowledged
	case ack.Error != nil && ack.Error.Code == 503 && ack.Error.ErrCode != errInsufficient && ack.Error.ErrCode != errStoreFailed:
		p.noResponders(token)
	case ack.Error != nil && ack.Error.ErrCode == errInProcess:
		p.noResponders(token) // its outcome is told to whom asks again
	case ack.Error != nil:
		p.refused(c, token, storeError(ack.Error.Code, ack.Error.ErrCode, ack.Error.Description))
	case ack.Duplicate:
		p.lookUp(c, ack.Seq)
	default:
		p.stored(token, ack.Seq)
	}
}

// storedAt reads the acknowledgement of a message that was stored now, as the server
// writes it: {"stream":"S","seq":7}. Any other answer is for the JSON decoder.
func storedAt(ack []byte) (seq uint64, ok bool) {
	const head, middle = `{"stream":"`, `","seq":`
	rest, ok := bytes.CutPrefix(ack, []byte(head))
	if !ok {
		return 0, false
	}
	name, number, ok := bytes.Cut(rest, []byte(middle))
	if !ok || bytes.IndexByte(name, '"') >= 0 || len(number) < 2 || number[len(number)-1] != '}' {
		return 0, false
	}
	digits := number[:len(number)-1]
	if len(digits) > 18 { // more may not fit
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		seq = 10*seq + uint64(c-'0')
	}
	return seq, true
}

// stored ends the call of an attempt that the log has stored as its first.
func (p *publisher) stored(token, seq uint64) {
	p.mu.Lock()
	c := p.tries[token]
	if c == nil { // late: another attempt was acknowledged
		p.mu.Unlock()
		return
	}
	pos := room.Position{Epoch: c.stream.knownEpoch(), Seq: seq, Check: c.checkOf(token)}
	c.stream.sawSeq(seq)
	p.endLocked(c)
	p.mu.Unlock()
	p.tell(c, room.Ack{ID: pos.String(), Stored: true}, nil)
}

// noResponders schedules a retry: the log had no leader, or is not done with the same
// id, so this attempt was not stored.
func (p *publisher) noResponders(token uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.tries[token]; c != nil {
		p.dropLocked(c, token)
	}
}

// refused ends a call that the log refuses, unless another attempt of it may have
// been stored: then it is asked again.
func (p *publisher) refused(c *call, token uint64, err error) {
	p.mu.Lock()
	p.dropLocked(c, token)
	unsure := c.unsure()
	p.mu.Unlock()
	if !unsure {
		p.finish(c, room.Ack{}, err)
	}
}

// dropLocked forgets an attempt that was not stored. If it was the newest, the next
// one is due after a pause.
func (p *publisher) dropLocked(c *call, token uint64) {
	delete(p.tries, token)
	c.tries = slices.DeleteFunc(c.tries, func(t try) bool { return t.token == token })
	if token == c.newest {
		c.due = time.Now().Add(c.backoff)
		c.backoff = min(2*c.backoff, maxBackoff)
	}
}

// lookUp finds the record of a duplicate, once at a time for a call.
func (p *publisher) lookUp(c *call, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || c.looking || c.ended {
		return
	}
	c.looking = true
	p.wg.Go(func() { p.finishDuplicate(c, seq) })
}

// finishDuplicate answers a duplicate with the first message's id, whose check only
// its record has. If that record is one of our own attempts, it is no duplicate. If
// it cannot be read, the next attempt's acknowledgement tries again.
func (p *publisher) finishDuplicate(c *call, seq uint64) {
	pos, err := p.bus.leaderPosition(c.ctx, c.stream, map[string]any{"seq": seq})
	p.mu.Lock()
	c.looking = false
	ours := slices.ContainsFunc(c.tries, func(t try) bool { return t.check == pos.Check })
	p.mu.Unlock()
	if err != nil {
		p.bus.log.Debug("look up duplicate", "room", c.pub.Room, "err", err)
		return
	}
	if pos.IsZero() { // stored, and gone again
		pos = room.Position{Epoch: c.stream.knownEpoch(), Seq: seq}
	}
	p.finish(c, room.Ack{ID: pos.String(), Stored: true, Duplicate: c.keyed && !ours}, nil)
}

// finish ends a call once.
func (p *publisher) finish(c *call, ack room.Ack, err error) {
	p.mu.Lock()
	if c.ended {
		p.mu.Unlock()
		return
	}
	p.endLocked(c)
	p.mu.Unlock()
	p.tell(c, ack, err)
}

// endLocked forgets a call, which the caller must tell.
func (p *publisher) endLocked(c *call) {
	c.ended = true
	for _, t := range c.tries {
		delete(p.tries, t.token)
	}
	delete(p.calls, c)
}

// tell tells a call's outcome.
func (p *publisher) tell(c *call, ack room.Ack, err error) {
	if err == nil {
		p.bus.traceStore(c.pub, ack)
	}
	c.complete(ack, err)
}

// sweep acts on calls whose time has come, until the bus stops.
func (p *publisher) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.stopc:
			return
		case now := <-tick.C:
			p.sweepAt(now)
		}
	}
}

// ending is a call that sweep ends.
type ending struct {
	c   *call
	err error
}

func (p *publisher) sweepAt(now time.Time) {
	var ends []ending
	p.mu.Lock()
	for c := range p.calls {
		if deadline, ok := c.ctx.Deadline(); ok && now.After(deadline.Add(-answerMargin)) {
			ends = append(ends, ending{c, c.gaveUp(context.DeadlineExceeded)})
			continue
		}
		if now.Sub(c.began) > maxCall {
			ends = append(ends, ending{c, c.gaveUp(errors.New("the log's memory of message ids ends"))})
			continue
		}
		if err := c.ctx.Err(); err != nil {
			ends = append(ends, ending{c, c.gaveUp(err)})
			continue
		}
		if now.Before(c.due) {
			continue
		}
		p.attemptLocked(c, now)
		switch {
		case errors.Is(c.lastErr, nats.ErrMaxPayload):
			ends = append(ends, ending{c, fmt.Errorf("nats refuses the record: %w", c.lastErr)})
		case c.lastErr != nil && !c.unsure() && !c.hold.IsZero() && now.After(c.hold):
			ends = append(ends, ending{c, unavailable(c.lastErr)})
		}
	}
	p.mu.Unlock()
	for _, e := range ends {
		p.finish(e.c, room.Ack{}, e.err)
	}
}

// stop ends every call with UNAVAILABLE or OUTCOME_UNKNOWN.
func (p *publisher) stop() {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return
	}
	p.stopped = true
	p.mu.Unlock()
	close(p.stopc)
	p.wg.Wait()
	p.mu.Lock()
	var ends []ending
	for c := range p.calls {
		ends = append(ends, ending{c, c.gaveUp(errors.New("the node stops"))})
	}
	p.mu.Unlock()
	for _, e := range ends {
		p.finish(e.c, room.Ack{}, e.err)
	}
}

// JetStream error codes that a publication can meet.
const (
	errInsufficient = 10023 // no memory or disk left
	errStoreFailed  = 10077 // a limit of the stream
	errTooMany      = 10167 // the stream's inbound queue is full
	errInProcess    = 10158 // the same message id was sent before and is not stored yet
)

// storeError turns the log's refusal into ours.
func storeError(code, errCode int, description string) error {
	cause := fmt.Errorf("log: %s (%d/%d)", description, code, errCode)
	switch errCode {
	case errTooMany:
		e := busy()
		e.Err = cause
		return e
	case errInsufficient, errStoreFailed:
		return &room.Error{
			Kind:       room.Exhausted,
			Reason:     room.ReasonLogFull,
			Msg:        "the log cannot store more",
			RetryAfter: 5 * time.Second,
			Err:        cause,
		}
	}
	return cause
}
