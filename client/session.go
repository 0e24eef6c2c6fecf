package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	writeTimeout = 10 * time.Second
	pongTimeout  = time.Second // a pong must not hold up reading; the next ping gives another chance
	closeGrace   = time.Second // to say goodbye, or to read the server's
	minRefresh   = 10 * time.Second
	maxMargin    = time.Minute
)

// session is one connection of a subscription. One goroutine reads, one writes, one
// closes the socket when the session's context ends.
type session struct {
	// Static after newSession.
	sub      *Subscription
	conn     *websocket.Conn
	replaces string // the node whose connection this one is to replace; empty = none
	requests *requests
	ctx      context.Context         //nolint:containedctx // ends when the connection does, with why as its cause
	cancel   context.CancelCauseFunc // ends it
	done     chan struct{}           // closed when nothing of it runs any more
	order    chan reconnectFrame     // one slot: the node asks for another connection

	// Owned by read until done.
	silence time.Duration // the connection is dead after hearing nothing for so long
	welcome time.Time     // when the server said welcome; zero if it has not
	active  bool          // a message came

	// Owned by write until done.
	token      string // the newest that the server was given
	introduced bool   // the server was asked when token expires

	mu      sync.Mutex
	ready   bool         // guarded by mu; the server said welcome, requests may be sent
	server  welcomeFrame // guarded by mu; once ready
	renewAt time.Time    // guarded by mu; when to renew the token; zero = not
}

// The reasons for which a subscription itself ends a connection.
var (
	errMoved    = errors.New("all rooms have moved to another connection")
	errNotMoved = errors.New("the connection to be replaced has ended first")
	errSameNode = errors.New("the new connection came to the node that asked for another")
)

// newSession starts to serve a connection, until ctx ends or the connection does.
func newSession(ctx context.Context, sub *Subscription, conn *websocket.Conn, token, replaces string) *session {
	s := &session{
		sub:      sub,
		conn:     conn,
		replaces: replaces,
		requests: newRequests(sub.rooms),
		done:     make(chan struct{}),
		order:    make(chan reconnectFrame, 1),
		silence:  sub.config.HandshakeTimeout + closeGrace, // the server's own limit comes first and says why
		token:    token,
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	go s.run()
	return s
}

// run serves the connection until it ends.
func (s *session) run() {
	defer close(s.done)
	var others sync.WaitGroup
	others.Go(func() {
		if err := s.write(s.ctx); err != nil {
			s.cancel(err)
		}
	})
	others.Go(func() {
		<-s.ctx.Done()
		s.hangUp()
	})
	s.cancel(s.read(s.ctx))
	others.Wait()
	s.sub.rooms.end(s.requests)
}

// wait waits until nothing of the session runs any more and returns why it ended.
func (s *session) wait() error {
	<-s.done
	return context.Cause(s.ctx)
}

// welcomed returns what the server calls itself, this socket and its user; nothing
// before its welcome.
func (s *session) welcomed() (server welcomeFrame, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server, s.ready
}

// healthy reports whether the connection was good enough to forget earlier failures.
// It is for after the end.
func (s *session) healthy() bool {
	return s.active || !s.welcome.IsZero() && time.Since(s.welcome) >= healthyAfter
}

// hangUp closes the socket, whoever is blocked on it.
func (s *session) hangUp() {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(closeGrace)) // a courtesy
	_ = s.conn.Close()                                                                   // it is over either way
}

// read takes frames in until the connection ends.
func (s *session) read(ctx context.Context) error {
	s.conn.SetPingHandler(func(data string) error {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.silence)) // fails only on a closed socket
		// A broken socket shows in read.
		_ = s.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(pongTimeout))
		return nil
	})
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(s.silence)); err != nil {
			return fmt.Errorf("set the read deadline: %w", err)
		}
		_, raw, err := s.conn.ReadMessage()
		if err != nil {
			return readError(err)
		}
		var frame serverFrame
		if err := json.Unmarshal(raw, &frame); err != nil {
			// Skipping it would be a silent loss, and resuming would meet it again.
			return finalError{fmt.Errorf("read a frame of the server: %w", err)}
		}
		if err := s.handle(ctx, &frame, raw); err != nil {
			return err
		}
	}
}

func readError(err error) error {
	if closed, ok := errors.AsType[*websocket.CloseError](err); ok {
		if closed.Code == websocket.CloseAbnormalClosure { // gorilla's word for the end of the TCP connection
			return &CloseError{Code: closed.Code, Text: closed.Text}
		}
		return newCloseError(closed.Code, closed.Text)
	}
	return fmt.Errorf("read: %w", err)
}

// handle acts on one frame.
func (s *session) handle(ctx context.Context, f *serverFrame, raw []byte) error {
	switch {
	case f.Message != nil:
		s.active = true
		return s.deliver(ctx, f.Message.Room, f.Message.ID, f.Message.delivery(raw), len(raw))
	case f.Gap != nil:
		return s.deliver(ctx, f.Gap.Room, f.Gap.Position, Gap(*f.Gap), len(raw))
	case f.Welcome != nil:
		return s.begin(ctx, f.Welcome)
	case f.Subscribed != nil:
		return s.subscribed(ctx, f.ID, f.Subscribed)
	case f.Unsubscribed != nil:
		if s.requests.unsubscribed(f.ID, f.Unsubscribed.Room) {
			return s.push(ctx, Unsubscribed(*f.Unsubscribed))
		}
	case f.Error != nil:
		return s.refused(f.ID, f.Error.toError())
	case f.Authenticated != nil:
		s.authenticated(f.Authenticated.Expires)
	case f.Reconnect != nil:
		select {
		case s.order <- *f.Reconnect:
		default: // it has been told
		}
	case f.Degraded != nil:
		return s.push(ctx, StateChange{State: Degraded, Reason: f.Degraded.Reason})
	case f.Restored != nil:
		return s.push(ctx, StateChange{State: Restored})
	}
	return nil
}

func (s *session) push(ctx context.Context, event Event) error {
	return s.sub.queue.push(ctx, event, 0)
}

// deliver queues an event of a room and moves the room's place behind it, unless the
// room is another connection's by now.
func (s *session) deliver(ctx context.Context, room, position string, event Event, bytes int) error {
	offer := func() bool { return s.sub.queue.offer(event, bytes) }
	return s.sub.queue.until(ctx, func() bool {
		return s.sub.rooms.deliver(s.requests, room, position, offer)
	})
}

// begin asks for the rooms, once the server has said welcome.
func (s *session) begin(ctx context.Context, f *welcomeFrame) error {
	s.welcome = time.Now()
	if f.PingMs > 0 {
		s.silence = 2 * time.Duration(f.PingMs) * time.Millisecond
	}
	switch s.replaces {
	case "":
		connected := StateChange{State: Connected, Node: f.Node, Connection: f.Connection, User: f.User}
		if err := s.push(ctx, connected); err != nil {
			return err
		}
	case f.Node:
		return errSameNode
	}
	s.mu.Lock()
	s.ready, s.server = true, *f
	if s.sub.config.TokenSource != nil {
		s.renewAt = s.welcome
	}
	s.mu.Unlock()
	s.sub.rooms.begin(s.requests)
	return nil
}

func (s *session) subscribed(ctx context.Context, id uint32, f *subscribedFrame) error {
	unwanted, missed := s.requests.subscribed(id, f.Room, f.Position)
	if unwanted {
		return nil
	}
	if err := s.push(ctx, Subscribed(*f)); err != nil {
		return err
	}
	if missed {
		return s.push(ctx, Gap{Room: f.Room, Reason: GapReset})
	}
	return nil
}

// refused acts on an error frame: a room refused for good ends the subscription.
func (s *session) refused(id uint32, refusal *Error) error {
	room, mine := s.requests.refused(id, refusal.RetryAfter)
	if room != "" {
		refusal.Room = room
		return finalError{refusal}
	}
	if !mine {
		// A refused renewal is not the end yet: the socket closes when the token expires.
		s.sub.log.Warn("request refused", "err", refusal)
	}
	return nil
}

// authenticated plans the renewal of the token before it expires.
func (s *session) authenticated(expires time.Time) {
	if expires.IsZero() || s.sub.config.TokenSource == nil {
		return
	}
	left := time.Until(expires)
	s.mu.Lock()
	s.renewAt = time.Now().Add(max(left-min(left/5, maxMargin), minRefresh))
	s.mu.Unlock()
	signal(s.requests.wake)
}
