package client

import (
	"context"
	"time"
)

// moveSpread is the part of the time that a node gives a socket to move in which the
// move begins, at a random moment: the node itself spreads its sockets.
const moveSpread = 4

// successor serves a connection until it ends, or until its node asks for another one
// and that has taken over all rooms: then it returns that. While there is none, the old
// one stays until the server closes it.
func (s *Subscription) successor(ctx context.Context, current *session) *session {
	var order reconnectFrame
	select {
	case <-current.done:
		return nil
	case order = <-current.order:
	}
	var tries backoff
	wait := within(time.Duration(order.WithinMs) * time.Millisecond / moveSpread)
	for pause(current.ctx, wait) == nil {
		next, err := s.replace(ctx, current)
		if err == nil {
			server, _ := next.welcomed()
			s.log.Info("moved", "node", server.Node, "reason", order.Reason)
			moved := StateChange{State: Moved, Node: server.Node, Connection: server.Connection, User: server.User, Reason: order.Reason}
			_ = s.queue.push(ctx, moved, 0) // the context's end shows in next
			return next
		}
		v := judge(err)
		if v.stop {
			break // the old one serves as long as it may
		}
		wait = v.delay(&tries)
		s.log.Info("cannot move yet", "err", err, "retry_in", wait)
	}
	return nil
}

// replace makes a connection beside the current one, has it take all rooms over, and
// ends the current one. Where that ends first, the new one goes on alone if the server
// has welcomed it. After an error the current one has its rooms back.
func (s *Subscription) replace(ctx context.Context, current *session) (*session, error) {
	old, _ := current.welcomed()
	next, err := s.open(current.ctx, ctx, old.Node)
	if err != nil {
		return nil, err
	}
	select {
	case <-next.requests.settled:
	case <-next.ctx.Done():
	case <-current.ctx.Done():
	}
	if _, ready := next.welcomed(); !ready {
		next.cancel(errNotMoved) // unless it has ended
	}
	if next.ctx.Err() != nil {
		return nil, next.wait()
	}
	current.cancel(errMoved)
	return next, nil
}
