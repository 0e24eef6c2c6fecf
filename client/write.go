package client

import (
	"context"
	"fmt"
	"time"
)

// write sends what the subscription has to ask for, when it is due, until the session
// ends. It returns nil then, and otherwise why the session must end.
func (s *session) write(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		frame, next := s.due(ctx)
		if frame != nil {
			if err := s.send(ctx, frame); err != nil {
				return err
			}
			continue
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-s.requests.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// send writes one frame. Where the socket broke, the reader is given a moment: it may
// find the server's close code, which says more than a failed write.
func (s *session) send(ctx context.Context, frame *clientFrame) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // never fails
	err := s.conn.WriteJSON(frame)
	if err == nil {
		return nil
	}
	_ = pause(ctx, closeGrace) // ends early when the reader has ended the session
	return fmt.Errorf("write: %w", err)
}

// due returns the frame to send now, or nil and when to look again (zero = when woken).
func (s *session) due(ctx context.Context) (*clientFrame, time.Time) {
	now := time.Now()
	s.mu.Lock()
	ready, renew := s.ready, s.renewAt
	s.mu.Unlock()
	if !ready {
		return nil, time.Time{}
	}
	if !renew.IsZero() && !renew.After(now) {
		return s.renew(ctx, now), now
	}
	frame, retry := s.requests.next(now)
	return frame, earliest(renew, retry)
}

// renew returns the frame that gives the server a newer token, or nil if there is none
// yet. The first time it repeats the handshake's token, to learn when that expires.
// Should it come to nothing, the socket is closed when the token has expired, and the
// next connection asks for another.
func (s *session) renew(ctx context.Context, now time.Time) *clientFrame {
	s.mu.Lock()
	s.renewAt = time.Time{} // until the answer
	if s.introduced {
		s.renewAt = now.Add(minRefresh) // or for another try
	}
	s.mu.Unlock()
	if s.introduced {
		token, err := s.sub.config.TokenSource(ctx)
		if err != nil {
			s.sub.log.Warn("get a token to renew the connection's", "err", err)
			return nil
		}
		if token == s.token {
			return nil
		}
		s.token = token
	}
	s.introduced = true
	return &clientFrame{ID: s.requests.id(), Auth: &authFrame{Token: s.token}}
}
