package bus

import (
	"context"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// fillPatience is how long a log that does not show the end of a hole is asked
// again: a replica may be behind the leader whose message told of the hole.
const fillPatience = 2 * time.Second

// fill reads what a room misses, from its head to the sequence upTo that a live
// message has named, or to the log's end if upTo is 0; upTo at the head only proves
// the head. Live messages wait meanwhile.
func (s *shard) fill(lr *liveRoom, upTo uint64) {
	lr.state, lr.doubted = filling, false // reading from the head proves it
	head := lr.head
	if upTo > head.Seq {
		s.bus.cfg.Metrics.Holes.Inc()
	}
	ctx, cancel := context.WithCancel(s.bus.ctx)
	lr.stop = cancel
	s.bus.wg.Go(func() {
		defer cancel()
		f := s.readHole(ctx, lr, head, upTo)
		if ctx.Err() == nil {
			s.post(func(s *shard) { s.filled(lr, f) })
		}
	})
}

// filler is what a hole held.
type filler struct {
	from room.Position  // the head that it began at
	gap  room.GapReason // messages may be missing before msgs
	head room.Position  // with RESET: where the room goes on
	msgs []*room.Message
	upTo uint64 // the room is complete, or told of a gap, to here
}

// readHole reads the hole, retrying until the log is there or the interest ends.
func (s *shard) readHole(ctx context.Context, lr *liveRoom, head room.Position, upTo uint64) filler {
	f := filler{from: head, upTo: upTo}
	at, began := head, time.Now()
	for backoff := 5 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		done, err := s.readHoleOnce(ctx, lr, &f, &at)
		switch {
		case done || ctx.Err() != nil:
			return f
		case err != nil:
			s.bus.log.Debug("fill", "room", lr.log.name, "err", err, "retry", backoff.String())
			began = time.Now() // patience is for a log that answers
		case time.Since(began) > fillPatience:
			if s.isGone(ctx, lr, f.upTo) {
				f.gap = room.Truncated
				return f
			}
			began = time.Now() // the replica that answers is far behind
		}
		select {
		case <-ctx.Done():
			return f
		case <-time.After(backoff):
		}
	}
}

// isGone reports whether the message at which a hole ends has left the log, as its
// leader knows it.
func (s *shard) isGone(ctx context.Context, lr *liveRoom, seq uint64) bool {
	p, err := s.bus.leaderPosition(ctx, lr.log.stream, map[string]any{"seq": seq})
	return err == nil && p.IsZero()
}

// readHoleOnce reads until the log shows nothing more. done reports that the hole is
// filled, or that a gap was found. It holds one of the places for reading holes. What
// a page held is delivered before the next is read: a hole may be long.
func (s *shard) readHoleOnce(ctx context.Context, lr *liveRoom, f *filler, at *room.Position) (done bool, err error) {
	b := s.bus
	select {
	case lr.log.stream.fills <- struct{}{}:
		defer func() { <-lr.log.stream.fills }()
	case <-ctx.Done():
		return true, nil
	}
	if f.upTo == 0 { // to the log's end, as its leader knows it
		end, err := b.headOf(ctx, lr.log)
		if err != nil {
			return false, err
		}
		f.upTo = f.from.Seq
		if !end.IsWatermark() {
			f.upTo = max(end.Seq, f.from.Seq)
		}
	}
	for {
		page, err := b.read(ctx, lr.log, *at, readBatch)
		if err != nil {
			return false, err
		}
		if page.Gap == room.Reset {
			f.gap, f.msgs = room.Reset, nil
			f.head, err = b.headOf(ctx, lr.log)
			return err == nil, err
		}
		if page.Gap == room.Truncated {
			f.gap, f.msgs = room.Truncated, nil
		}
		for _, m := range page.Messages {
			if m.Position.Seq > f.upTo {
				return true, nil // the rest comes live
			}
			f.msgs = append(f.msgs, m)
		}
		if !page.Last.IsZero() {
			*at = page.Last
		}
		if !page.More {
			return at.Seq >= f.upTo || f.gap != "" && s.isGone(ctx, lr, f.upTo), nil
		}
		if len(f.msgs) > 0 {
			part := *f
			s.post(func(s *shard) { s.deliverPart(lr, part) })
			f.from, f.gap, f.msgs = part.msgs[len(part.msgs)-1].Position, "", nil
		}
	}
}

// deliverPart delivers a part of what a hole holds. The room goes on waiting.
func (s *shard) deliverPart(lr *liveRoom, f filler) {
	if s.rooms[lr.subject] == lr && lr.head == f.from { // else filled finds the same
		s.deliverHole(lr, f)
	}
}

// deliverHole tells a room of the gap in a hole, if there is one, and of what follows it.
func (s *shard) deliverHole(lr *liveRoom, f filler) {
	if f.gap != "" {
		head := f.head
		switch {
		case !head.IsZero():
		case len(f.msgs) > 0: // the room goes on just before what is left
			head = room.Position{Epoch: f.from.Epoch, Seq: f.msgs[0].Position.Seq - 1}
		case f.upTo > f.from.Seq: // the log has nothing of the hole, which is all that the gap hides
			head = room.Position{Epoch: f.from.Epoch, Seq: f.upTo}
		default:
			head = f.from
		}
		s.broken(lr, f.gap, head)
	}
	for _, m := range f.msgs {
		s.bus.cfg.Metrics.FilledMessages.Inc()
		s.deliver(lr, m)
	}
}

// filled delivers what a hole held and goes on with what came meanwhile.
func (s *shard) filled(lr *liveRoom, f filler) {
	if s.rooms[lr.subject] != lr {
		return
	}
	lr.stop = nil
	s.proved(lr)
	if lr.head != f.from { // the log was replaced meanwhile: what was read is of the old one
		lr.dirty = true
		s.settle(lr)
		return
	}
	s.deliverHole(lr, f)
	if f.gap != room.Reset && lr.head.Seq < f.upTo {
		lr.head = room.Position{Epoch: lr.head.Epoch, Seq: f.upTo} // its message is gone
	}
	s.settle(lr)
}
