package bus

import (
	"context"
	"slices"

	"github.com/roomcast/roomcast/internal/room"
)

// ReadBack answers the stretch of a stored room's log before a position, at most limit
// messages, newest first; the zero position means from the newest message. Messages
// whose ttl has passed are among them. What is older than the history is simply not
// there; Page.Gap is RESET for a position of another log, with no messages. Page.Last
// is of the oldest entry, and Page.More says that there are older ones. Errors are
// those of [Bus.Read].
func (b *Bus) ReadBack(ctx context.Context, name room.Name, before room.Position, limit int) (room.Page, error) {
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
	end, proven, err := b.backFrom(ctx, l, before)
	switch {
	case err != nil:
		return room.Page{}, err
	case !proven:
		return room.Page{Gap: room.Reset}, nil
	}
	back := backReader{bus: b, log: l, end: end, limit: limit}
	return back.read(ctx)
}

// backFrom returns the sequence that a stretch ends with, and whether the position
// that it lies before is one of this log.
func (b *Bus) backFrom(ctx context.Context, l roomLog, before room.Position) (end uint64, proven bool, err error) {
	if before.IsZero() {
		head, err := b.headOf(ctx, l)
		return head.Seq, true, err
	}
	info, err := b.streamInfo(ctx, l.stream)
	if err != nil {
		return 0, false, err
	}
	if before.Epoch != info.epoch {
		return 0, false, nil
	}
	if above, err := b.isAbove(ctx, l.stream, info, before.Seq); err != nil || above {
		return 0, false, err
	}
	end = max(1, before.Seq) - 1
	if before.IsWatermark() {
		proven, err = b.sameMoment(ctx, l.stream, before)
		return end, proven, err
	}
	own, err := b.leaderMessage(ctx, l.stream, map[string]any{"seq": before.Seq})
	return end, own == nil || own.position(l.stream) == before, err
}

// backReader reads one stretch back from the sequence end. The log is only read
// forward, but it tells how many of a room's entries there are from a sequence on:
// that finds where the stretch begins without reading all before it.
type backReader struct {
	bus   *Bus
	log   roomLog
	end   uint64
	limit int

	first uint64 // the oldest entry to show
	newer uint64 // entries above end
}

func (r *backReader) read(ctx context.Context) (room.Page, error) {
	oldest, err := r.bus.directGet(ctx, r.log, 1, 1)
	if err != nil || oldest.total == 0 || oldest.Last.Seq > r.end {
		return room.Page{}, err
	}
	r.first = oldest.Last.Seq
	if oldest.total > uint64(r.log.stream.policy.History.Size) { //nolint:gosec // checked positive
		r.first++ // the anchor
	}
	if r.newer, err = r.count(ctx, r.end+1); err != nil {
		return room.Page{}, err
	}
	start, err := r.start(ctx, oldest.total-min(oldest.total, r.newer))
	if err != nil {
		return room.Page{}, err
	}
	return r.collect(ctx, start)
}

// count returns how many entries the room has from a sequence to the end.
func (r *backReader) count(ctx context.Context, seq uint64) (uint64, error) {
	page, err := r.bus.directGet(ctx, r.log, seq, 1)
	return page.total - min(page.total, r.newer), err
}

// start returns a sequence with at least limit entries between it and the end, if
// there are so many, and not many more than twice as many. It looks ever further back,
// then halves the stretch until it is short enough.
func (r *backReader) start(ctx context.Context, all uint64) (uint64, error) {
	limit := uint64(r.limit) //nolint:gosec // a page's size
	enough := 2*limit + readBatch
	low, entries := r.first, all // too many entries from here, or all
	high := r.end + 1            // too few from here
	for span := limit; span <= r.end-r.first && entries > enough; span *= 4 {
		seq := r.end + 1 - span
		n, err := r.count(ctx, seq)
		if err != nil {
			return 0, err
		}
		if n >= limit {
			low, entries = seq, n
			break
		}
		high = seq
	}
	for entries > enough && high-low > 1 {
		middle := low + (high-low)/2
		n, err := r.count(ctx, middle)
		if err != nil {
			return 0, err
		}
		if n >= limit {
			low, entries = middle, n
		} else {
			high = middle
		}
	}
	return low, nil
}

// collect reads from start to the end and keeps the newest messages, at most limit and
// about as many bytes as a page of the log has.
func (r *backReader) collect(ctx context.Context, start uint64) (room.Page, error) {
	page := room.Page{More: start > r.first}
	size := 0
	for seq, more := start, true; more && seq <= r.end; {
		got, err := r.bus.directGet(ctx, r.log, seq, readBatch)
		if err != nil {
			return room.Page{}, err
		}
		for _, m := range got.Messages {
			if m.Position.Seq > r.end {
				break
			}
			if m.IsPurge() {
				page, size = room.Page{}, 0 // what is before it is gone, or about to go
				continue
			}
			page.Messages = append(page.Messages, m)
			size += len(m.Payload.Bytes)
			for len(page.Messages) > r.limit || size > readMaxBytes && len(page.Messages) > 1 {
				size -= len(page.Messages[0].Payload.Bytes)
				page.Messages, page.More = slices.Delete(page.Messages, 0, 1), true
			}
		}
		seq, more = got.Last.Seq+1, got.More
	}
	slices.Reverse(page.Messages)
	page.Last = room.Position{Epoch: r.log.stream.knownEpoch(), Seq: start}
	if n := len(page.Messages); n > 0 {
		page.Last = page.Messages[n-1].Position
	}
	return page, nil
}
