package api

import (
	"context"
	"sync"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// receipt asks who was there for a message that was published.
func (s *publishService) receipt(ctx context.Context, p *room.Publication, ack room.Ack) *roomcastv1.Receipt {
	id := ack.ID
	if !ack.Stored {
		id = "" // it is no position
	}
	c := s.presence.Receipt(ctx, p.Room, id, p.ExcludeUser)
	return &roomcastv1.Receipt{
		Connections: uint32(c.Connections), Users: uint32(c.Users), //nolint:gosec // counts
		Complete: c.Complete, MissingNodes: c.Missing,
	}
}

// receipts collects those of several messages by their place. It is nil, and costs
// nothing, until the first is asked for.
type receipts struct {
	pending sync.WaitGroup
	mu      sync.Mutex
	of      map[int]*roomcastv1.Receipt // guarded by mu until all are there
}

// ask asks for one more; they run side by side. It returns r, made if there was none.
func (r *receipts) ask(ctx context.Context, s *publishService, i int, p *room.Publication, ack room.Ack) *receipts {
	if r == nil {
		r = &receipts{of: make(map[int]*roomcastv1.Receipt)}
	}
	r.pending.Go(func() {
		got := s.receipt(ctx, p, ack)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.of[i] = got
	})
	return r
}

// wait returns them by place; nil if none was asked for.
func (r *receipts) wait() map[int]*roomcastv1.Receipt {
	if r == nil {
		return nil
	}
	r.pending.Wait()
	return r.of
}
