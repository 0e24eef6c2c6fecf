package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// heads asks where rooms of one log stand, at most joinBatch: each at its last message,
// or at the log's end if it has none. What the answer says is not older than the call:
// the leader tells the log's end, and a replica that has not come to it is asked again
// until ctx ends.
func (b *Bus) heads(ctx context.Context, s *logStream, rooms []roomLog) ([]room.Position, error) {
	info, err := b.streamInfo(ctx, s)
	if err != nil {
		return nil, err
	}
	last, err := b.lastMessages(ctx, s, info, rooms)
	if err != nil {
		return nil, err
	}
	heads := make([]room.Position, len(rooms))
	for i, l := range rooms {
		head, ok := last[l.subject]
		if !ok {
			head = info.end()
		}
		heads[i] = head
	}
	return heads, nil
}

// lastMessages reads the position of each room's last message, by subject.
func (b *Bus) lastMessages(ctx context.Context, s *logStream, info logInfo, rooms []roomLog) (map[string]room.Position, error) {
	if len(rooms) == 1 && info.leader == "" {
		return b.leaderLast(ctx, s, rooms) // cheaper than an inbox of its own
	}
	q := lastQuery{MaxBytes: readMaxBytes}
	for _, l := range rooms {
		q.Subjects = append(q.Subjects, l.subject)
	}
	if info.leader != "" { // something to find, or the answer does not tell how far the replica has come
		q.Subjects = append(q.Subjects, canaryPub(s.policy.Namespace, b.cfg.Node))
	}
	a := lastAnswer{epoch: info.epoch, found: make(map[string]room.Position, len(rooms))}
	for backoff := time.Millisecond; ; backoff = min(2*backoff, 100*time.Millisecond) {
		if err := b.askLast(ctx, s, q, &a); err != nil {
			return nil, err
		}
		switch {
		case info.leader == "": // there is one replica
		case a.empty:
			return b.leaderLast(ctx, s, rooms)
		case a.upTo < info.last: // behind: what it says may be old
			select {
			case <-ctx.Done():
				return nil, unavailable(fmt.Errorf("a replica of %s is behind: %w", s.name, ctx.Err()))
			case <-time.After(backoff):
			}
			continue
		}
		if a.pending == 0 {
			return a.found, nil
		}
		q.From = a.last + 1 // the rest did not fit into one answer
	}
}

// leaderLast asks the stream's leader for each room.
func (b *Bus) leaderLast(ctx context.Context, s *logStream, rooms []roomLog) (map[string]room.Position, error) {
	found := make(map[string]room.Position)
	for _, l := range rooms {
		head, err := b.leaderPosition(ctx, s, map[string]any{"last_by_subj": l.subject})
		if err != nil {
			return nil, err
		}
		if !head.IsZero() {
			found[l.subject] = head
		}
	}
	return found, nil
}

// lastQuery is the request of a Direct Get for the last message of many subjects.
type lastQuery struct {
	Subjects []string `json:"multi_last"`
	From     uint64   `json:"seq,omitempty"`
	MaxBytes int      `json:"max_bytes"`
}

// lastAnswer is what a replica answers.
type lastAnswer struct {
	epoch   string
	found   map[string]room.Position // by subject
	last    uint64                   // sequence of the newest message in the answer; 0 = none yet
	upTo    uint64                   // the replica's last sequence
	pending uint64                   // messages that did not fit
	empty   bool                     // there is none; upTo is not told
}

// askLast asks one replica and adds what it answers.
func (b *Bus) askLast(ctx context.Context, s *logStream, q lastQuery, a *lastAnswer) error {
	body, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("direct get: %w", err)
	}
	nc := b.replayConn()
	replies := make(chan *nats.Msg, len(q.Subjects)+2)
	inbox := nc.NewRespInbox()
	sub, err := nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection gone
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+s.name, inbox, body); err != nil {
		return unavailable(err)
	}
	b.cfg.Metrics.LogReads.Inc()
	a.empty, a.last = false, 0
	for {
		select {
		case msg := <-replies:
			if done, err := a.take(msg); done || err != nil {
				return err
			}
		case <-ctx.Done():
			return unavailable(fmt.Errorf("direct get: %w", ctx.Err()))
		}
	}
}

// take adds one reply, which must follow the one before it; done reports that it was the
// last.
func (a *lastAnswer) take(msg *nats.Msg) (done bool, err error) {
	status, before := headerValue(msg.Header, "Status"), headerValue(msg.Header, nats.JSLastSequence)
	if (status == "" || status == "204") && before != strconv.FormatUint(a.last, 10) {
		return true, unavailable(fmt.Errorf("direct get: sequence %s does not come after %d", before, a.last))
	}
	switch status {
	case "":
	case "204":
		if a.upTo, err = strconv.ParseUint(headerValue(msg.Header, "Nats-UpTo-Sequence"), 10, 64); err != nil {
			return true, fmt.Errorf("direct get: end: %w", err)
		}
		if a.pending, err = strconv.ParseUint(headerValue(msg.Header, "Nats-Num-Pending"), 10, 64); err != nil {
			return true, fmt.Errorf("direct get: pending: %w", err)
		}
		return true, nil
	case "404":
		if description := headerValue(msg.Header, "Description"); description != "No Results" {
			return true, unavailable(errors.New("direct get: " + description)) // read while it left the log
		}
		a.empty, a.pending = true, 0
		return true, nil
	default:
		return true, unavailable(fmt.Errorf("direct get: status %s %s", status, headerValue(msg.Header, "Description")))
	}
	if a.last, err = strconv.ParseUint(headerValue(msg.Header, nats.JSSequence), 10, 64); err != nil {
		return true, fmt.Errorf("direct get: sequence: %w", err)
	}
	pos := room.Position{Epoch: a.epoch, Seq: a.last}
	var record busv1.Record
	if err := proto.Unmarshal(msg.Data, &record); err == nil {
		pos.Check = record.GetCheck()
	}
	a.found[headerValue(msg.Header, nats.JSSubject)] = pos
	return false, nil
}
