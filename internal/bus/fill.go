package bus

import (
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
	lr.state = filling
	head := lr.head
	if upTo > head.Seq {
		s.bus.cfg.Metrics.Holes.Inc()
	}
	s.bus.wg.Go(func() {
		select {
		case s.bus.fills <- struct{}{}:
			defer func() { <-s.bus.fills }()
		case <-lr.ctx.Done():
			return
		}
		f := s.bus.readHole(lr, head, upTo)
		if lr.ctx.Err() == nil {
			s.post(func(s *shard) { s.filled(lr, f) })
		}
	})
}

// filler is what a hole held.
type filler struct {
	gap  room.GapReason // messages may be missing before msgs
	head room.Position  // with RESET: where the room goes on
	msgs []*room.Message
	upTo uint64 // the room is complete, or told of a gap, to here
}

// readHole reads the hole, retrying until the log is there or the interest ends.
func (b *Bus) readHole(lr *liveRoom, head room.Position, upTo uint64) filler {
	f := filler{upTo: upTo}
	backoff, began := 5*time.Millisecond, time.Now()
	from := head
	for {
		page, err := b.read(lr.ctx, lr.stream, lr.subjects.pub, from, readBatch)
		if err == nil {
			if page.Gap == room.Reset {
				return b.resetFiller(lr)
			}
			if page.Gap == room.Truncated {
				f.gap, f.msgs = room.Truncated, nil
			}
			for _, m := range page.Messages {
				if upTo != 0 && m.Position.Seq > upTo {
					return f // the rest comes live
				}
				f.msgs = append(f.msgs, m)
			}
			if !page.Last.IsZero() {
				from = page.Last
			}
			if page.More {
				continue
			}
			if from.Seq >= upTo {
				return f
			}
			if time.Since(began) > fillPatience {
				f.gap = room.Truncated // the message at upTo was purged
				return f
			}
		} else {
			b.log.Warn("fill", "room", lr.name, "err", err, "retry", backoff)
		}
		select {
		case <-lr.ctx.Done():
			return f
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, time.Second)
	}
}

// resetFiller finds where a replaced log stands for a room.
func (b *Bus) resetFiller(lr *liveRoom) filler {
	for {
		info, err := b.streamInfo(lr.ctx, lr.stream)
		if err == nil {
			var last *room.Message
			if last, err = b.lastInRoom(lr.ctx, lr.stream, lr.subjects.pub); err == nil {
				f := filler{gap: room.Reset, head: room.Position{Epoch: info.epoch, Seq: info.last}}
				if last != nil {
					f.head = last.Position
				}
				return f
			}
		}
		select {
		case <-lr.ctx.Done():
			return filler{}
		case <-time.After(time.Second):
		}
	}
}

// filled delivers what a hole held and goes on with what came meanwhile.
func (s *shard) filled(lr *liveRoom, f filler) {
	if s.rooms[lr.subjects.live] != lr {
		return
	}
	if f.gap != "" {
		head := f.head
		if head.IsZero() {
			head = lr.head
		}
		s.broken(lr, f.gap, head)
	}
	for _, m := range f.msgs {
		s.bus.cfg.Metrics.FilledMessages.Inc()
		s.deliver(lr, m)
	}
	if lr.head.Seq < f.upTo {
		lr.head = room.Position{Epoch: lr.head.Epoch, Seq: f.upTo} // its message is gone
	}
	s.settle(lr)
}
