package bus

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// purgeRetry is the pause before the log is asked again to remove what a marker has
// declared removed.
const purgeRetry = 250 * time.Millisecond

// Purge removes what a room has stored so far and returns how many messages that
// were. First a marker is stored as the room's newest entry: it tells every node, and
// whoever resumes from before it, and it is what the log gives as last sequence to the
// next message. Only then is what is below it removed.
//
// Errors are of kind Precondition for an ephemeral room, else those of [Bus.Publish].
// After one the marker may be stored and what is below it still there; purging again
// removes it.
func (b *Bus) Purge(ctx context.Context, name room.Name) (removed uint64, err error) {
	policy := b.cfg.Policies.Of(name)
	if !policy.Stored() {
		return 0, noHistory(policy)
	}
	l := b.logOf(name, policy)
	oldest, err := b.directGet(ctx, l, 1, 1)
	if err != nil {
		return 0, err
	}
	ack, err := b.Publish(ctx, &room.Publication{Room: name, Payload: room.Payload{Kind: room.Purge}})
	if err != nil {
		return 0, err
	}
	marker, err := room.ParsePosition(ack.ID, "id")
	if err != nil {
		return 0, err
	}
	removed, err = b.purgeBelow(ctx, l, marker.Seq)
	if removed > 0 && len(oldest.Messages) > 0 && oldest.Messages[0].IsPurge() {
		removed-- // the marker of the purge before
	}
	return removed, err
}

// purgeBelow removes the room's entries below a sequence, trying until ctx ends.
func (b *Bus) purgeBelow(ctx context.Context, l roomLog, seq uint64) (removed uint64, err error) {
	query := map[string]any{"filter": l.subject, "seq": seq}
	for {
		var r struct {
			apiResponse
			Purged uint64 `json:"purged"`
		}
		err := b.apiRequest(ctx, "STREAM.PURGE."+l.stream.name, query, &r)
		if err == nil && r.Error == nil {
			return r.Purged, nil
		}
		if err == nil {
			err = unavailable(errors.New("purge: " + r.Error.Description))
		}
		b.log.Debug("purge", "room", l.name, "err", err)
		select {
		case <-ctx.Done():
			return 0, err
		case <-b.ctx.Done():
			return 0, err
		case <-time.After(purgeRetry):
		}
	}
}

// read is [Bus.readAfter] with purges told by their markers: of a page only the newest
// marker and what follows it is left, and the marker stands for the gap. A hole is
// filled with it as it is; for others see showGap.
func (b *Bus) read(ctx context.Context, l roomLog, after room.Position, limit int) (room.Page, error) {
	page, err := b.readAfter(ctx, l, after, limit)
	for i, m := range slices.Backward(page.Messages) {
		if m.IsPurge() {
			page.Messages, page.Gap = page.Messages[i:], ""
			break
		}
	}
	return page, err
}

// showGap replaces the marker that a page of [Bus.read] may begin with by the gap that
// it is to those who have a position before it.
func showGap(page *room.Page, after room.Position) {
	if len(page.Messages) == 0 || !page.Messages[0].IsPurge() {
		return
	}
	page.Messages = page.Messages[1:]
	if !after.IsZero() {
		page.Gap = room.Truncated
	}
}

// noHistory is the error for what needs a log in a room that has none.
func noHistory(policy *room.Policy) *room.Error {
	return room.Errorf(room.Precondition, room.ReasonNoHistory,
		"room is ephemeral: namespace %q keeps no history", policy.Namespace)
}
