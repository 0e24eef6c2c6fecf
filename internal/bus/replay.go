package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/roomcast/roomcast/internal/room"
)

// Bounds of one read of the log.
const (
	readBatch    = 256     // messages
	readMaxBytes = 1 << 20 // bytes; above the largest record
)

// Read answers the stretch of a stored room's log after a position, at most limit
// messages, oldest first; the zero position means from the oldest message that the
// room's history keeps. Messages whose ttl has passed are among them. Page.Gap says
// when the log does not prove that the stretch follows the position (protocol §5):
// RESET for a position of another log, with no messages; TRUNCATED with what there
// is. Errors are of kind Precondition for an ephemeral room, else Unavailable.
func (b *Bus) Read(ctx context.Context, name room.Name, after room.Position, limit int) (room.Page, error) {
	policy := b.cfg.Policies.Of(name)
	if !policy.Stored() {
		return room.Page{}, noHistory(policy)
	}
	l := b.logOf(name, policy)
	select {
	case l.stream.reads <- struct{}{}:
		defer func() { <-l.stream.reads }()
	case <-ctx.Done():
		return room.Page{}, unavailable(ctx.Err())
	}
	page, err := b.read(ctx, l, after, limit)
	showGap(&page, after)
	return page, err
}

// Ends reports whether a stored room's log has nothing after a position, as its leader
// knows it: the replicas that [Bus.Read] asks may be behind. Errors are those of Read.
func (b *Bus) Ends(ctx context.Context, name room.Name, after room.Position) (bool, error) {
	policy := b.cfg.Policies.Of(name)
	if !policy.Stored() {
		return false, noHistory(policy)
	}
	l := b.logOf(name, policy)
	next, err := b.leaderMessage(ctx, l.stream, map[string]any{"seq": after.Seq + 1, "next_by_subj": l.subject})
	return err == nil && next == nil, err
}

// roomLog is one stored room's part of its namespace's log.
type roomLog struct {
	name    room.Name
	stream  *logStream
	subject string
}

// logOf returns a room's log; an ephemeral room has none, only the name.
func (b *Bus) logOf(name room.Name, policy *room.Policy) roomLog {
	if !policy.Stored() {
		return roomLog{name: name}
	}
	return roomLog{name: name, stream: b.streams[policy.Namespace], subject: pubSubject(name, policy)}
}

func (b *Bus) readAfter(ctx context.Context, l roomLog, after room.Position, limit int) (room.Page, error) {
	switch {
	case after.IsZero():
		return b.readOldest(ctx, l, limit)
	case after.Epoch != l.stream.knownEpoch():
		return room.Page{Gap: room.Reset}, nil
	case after.IsWatermark():
		return b.readAfterWatermark(ctx, l, after, limit)
	}
	// Inclusive: the position's own record proves that nothing after it is gone.
	page, err := b.directGet(ctx, l, after.Seq, limit+1)
	if err != nil {
		return room.Page{}, err
	}
	if len(page.Messages) > 0 && page.Messages[0].Position.Seq == after.Seq {
		if page.Messages[0].Position.Check != after.Check {
			return room.Page{Gap: room.Reset}, nil // the sequence was used again
		}
		page.Messages = page.Messages[1:]
		return page.Page, nil
	}
	info, err := b.streamInfo(ctx, l.stream)
	if err != nil {
		return room.Page{}, err
	}
	if info.epoch != after.Epoch {
		return room.Page{Gap: room.Reset}, nil
	}
	if above, err := b.isAbove(ctx, l.stream, info, after.Seq); err != nil || above {
		return room.Page{Gap: room.Reset}, err
	}
	// A replica that is behind does not prove an absence: its leader does.
	own, err := b.leaderMessage(ctx, l.stream, map[string]any{"seq": after.Seq})
	switch {
	case err != nil:
		return room.Page{}, err
	case own == nil: // it has left the log
	case own.position(l.stream) != after:
		return room.Page{Gap: room.Reset}, nil // the sequence was used again, by another room
	case own.Subject == l.subject:
		return room.Page{}, unavailable(fmt.Errorf("read log: a replica does not have sequence %d yet", after.Seq))
	}
	page.Gap = room.Truncated
	return page.cut(limit), nil
}

// readOldest reads from the oldest message of the history. The anchor, which is
// there only to prove positions, is left out.
func (b *Bus) readOldest(ctx context.Context, l roomLog, limit int) (room.Page, error) {
	page, err := b.directGet(ctx, l, 1, limit+1)
	if err != nil {
		return room.Page{}, err
	}
	if page.total > uint64(l.stream.policy.History.Size) && len(page.Messages) > 0 { //nolint:gosec // checked positive
		page.Messages = page.Messages[1:]
	}
	return page.cut(limit), nil
}

// readAfterWatermark reads what follows a moment of the stream. It is proven if
// nothing of the room can have left the log since: the stream still begins at or
// before the moment, no more messages follow than the log keeps, and its limits have
// not changed. The log is asked for that after the messages, since it only shrinks.
func (b *Bus) readAfterWatermark(ctx context.Context, l roomLog, after room.Position, limit int) (room.Page, error) {
	page, err := b.directGet(ctx, l, after.Seq+1, limit)
	if err != nil {
		return room.Page{}, err
	}
	info, err := b.streamInfo(ctx, l.stream)
	if err != nil {
		return room.Page{}, err
	}
	if info.epoch != after.Epoch {
		return room.Page{Gap: room.Reset}, nil
	}
	if above, err := b.isAbove(ctx, l.stream, info, after.Seq); err != nil || above {
		return room.Page{Gap: room.Reset}, err
	}
	if same, err := b.sameMoment(ctx, l.stream, after); err != nil || !same {
		return room.Page{Gap: room.Reset}, err
	}
	if info.first > after.Seq+1 || after.Seq < info.floor || page.total > info.size {
		page.Gap = room.Truncated
	}
	return page.Page, nil
}

// sameMoment reports whether a watermark is of this log, as far as the log can tell: of
// a message that is gone it does not know the time.
func (b *Bus) sameMoment(ctx context.Context, s *logStream, watermark room.Position) (bool, error) {
	if watermark.Moment == 0 {
		return true, nil
	}
	msg, err := b.leaderMessage(ctx, s, map[string]any{"seq": watermark.Seq})
	return msg == nil || momentOf(msg.Time) == watermark.Moment, err
}

// stretch is a page and how many messages of the room there are from its start on.
type stretch struct {
	room.Page
	total uint64
}

// cut drops what is over the limit.
func (p stretch) cut(limit int) room.Page {
	if len(p.Messages) > limit {
		p.Messages = p.Messages[:limit]
		p.Last = p.Messages[limit-1].Position
		p.More = true
	}
	return p.Page
}

// directGet reads a room's messages from sequence seq on, in one batch.
func (b *Bus) directGet(ctx context.Context, l roomLog, seq uint64, batch int) (stretch, error) {
	var page stretch
	query := directGetQuery{Seq: max(1, seq), Subject: l.subject, Batch: batch, MaxBytes: readMaxBytes}
	err := b.batchGet(ctx, l.stream.name, query, func(msg *nats.Msg) error { return page.take(msg, l) })
	b.cfg.Metrics.LogReads.Inc()
	b.cfg.Metrics.LogMessages.Add(float64(len(page.Messages)))
	if err != nil {
		return stretch{}, err
	}
	return page, nil
}

// batchGet reads one batch of the Direct Get API (ADR-31 of NATS): one message each,
// then an empty one with status 204, or 404 alone if there is none. Each reply names the
// sequence before it: one that NATS has lost on the way, as a reconnect does, is missed.
func (b *Bus) batchGet(ctx context.Context, stream string, query directGetQuery, take func(*nats.Msg) error) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	nc := b.replayConn()
	replies := make(chan *nats.Msg, query.Batch+2)
	inbox := nc.NewRespInbox()
	sub, err := nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection gone
	body, err := json.Marshal(query)
	if err != nil {
		return fmt.Errorf("direct get: %w", err)
	}
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return unavailable(err)
	}
	for last := "0"; ; {
		select {
		case msg := <-replies:
			status := headerValue(msg.Header, "Status")
			switch before := headerValue(msg.Header, nats.JSLastSequence); {
			case status == "404":
				return nil
			case status != "" && status != "204":
				return unavailable(fmt.Errorf("direct get: status %s %s", status, headerValue(msg.Header, "Description")))
			case before != last:
				return unavailable(fmt.Errorf("direct get: sequence %s does not come after %s", before, last))
			case status == "204":
				return nil
			}
			last = headerValue(msg.Header, nats.JSSequence)
			if err := take(msg); err != nil {
				return err
			}
		case <-ctx.Done():
			return unavailable(fmt.Errorf("direct get: %w", ctx.Err()))
		case <-b.ctx.Done():
			return unavailable(errors.New("the node stops"))
		}
	}
}

// directGetQuery is the request of a batched Direct Get.
type directGetQuery struct {
	Seq      uint64 `json:"seq"`
	Subject  string `json:"next_by_subj"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
}

// take adds one reply.
func (p *stretch) take(msg *nats.Msg, l roomLog) error {
	seq, err := strconv.ParseUint(headerValue(msg.Header, nats.JSSequence), 10, 64)
	if err != nil {
		return fmt.Errorf("direct get: sequence: %w", err)
	}
	pending, err := strconv.ParseUint(headerValue(msg.Header, "Nats-Num-Pending"), 10, 64)
	if err != nil {
		return fmt.Errorf("direct get: pending: %w", err)
	}
	stored, err := time.Parse(time.RFC3339Nano, headerValue(msg.Header, nats.JSTimeStamp))
	if err != nil {
		return fmt.Errorf("direct get: time: %w", err)
	}
	if p.total == 0 {
		p.total = pending + 1
	}
	p.More = pending > 0
	epoch := l.stream.knownEpoch()
	m, err := decodeRecord(msg.Data, l.name, epoch, seq, stored)
	if err != nil {
		p.Last = room.Position{Epoch: epoch, Seq: seq}
		return nil //nolint:nilerr // no record of ours: left out
	}
	p.Messages = append(p.Messages, m)
	p.Last = m.Position
	return nil
}

// replayConn picks the next connection for reading the log.
func (b *Bus) replayConn() *nats.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nextRC = (b.nextRC + 1) % len(b.replay)
	return b.replay[b.nextRC]
}
