package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	defaultHandshakeTimeout = 10 * time.Second

	// healthyAfter is how long a connection must live to end a row of failures. A
	// server that accepts and fails at once must not be dialled in a tight loop.
	healthyAfter = 30 * time.Second
)

// Config says what to subscribe to and how to connect.
type Config struct {
	// URL of a node's or cluster's socket: "ws://host:8080/v1/ws" or "wss://…".
	// http and https are taken too; without a path it is /v1/ws.
	URL string

	// Token is a fixed bearer token. TokenSource gives one for each connection, and
	// renews it on the open socket before it expires. At most one of them; none is a
	// guest, which servers in development mode accept.
	Token       string
	TokenSource TokenSource

	Rooms []RoomConfig

	TLS              *tls.Config   // for wss; nil = the system's roots
	HandshakeTimeout time.Duration // of dial, TLS and upgrade, and then of the welcome; 0 = 10 s
	Header           http.Header   // more headers for the handshake

	// DialContext makes the TCP connections; nil = a [net.Dialer].
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)

	Logger *slog.Logger // nil = silent
}

// RoomConfig is a room to subscribe to.
type RoomConfig struct {
	Room  string
	After string // a message id or position of this room: messages after it come first; empty = from now on
}

// Subscription receives the messages of rooms over a WebSocket, and over two while it
// moves from one to the next.
type Subscription struct {
	// Static after Subscribe.
	config Config
	url    string
	log    *slog.Logger
	rooms  *rooms
	queue  *queue
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when run has returned

	// Owned by run.
	backoff      backoff
	token        string // of the current connection
	refused      string // a token that the server did not take
	refusedError error
}

// Subscribe starts a subscription that lasts until ctx ends, Close is called, or
// reconnecting would not help. It checks the configuration and does not wait for the
// connection: what happens comes as events, and a failure that is final from Next.
func Subscribe(ctx context.Context, config Config) (*Subscription, error) {
	address, err := socketURL(config.URL)
	if err != nil {
		return nil, err
	}
	if config.Token != "" && config.TokenSource != nil {
		return nil, errors.New("both Token and TokenSource are set")
	}
	wanted, err := newRooms(config.Rooms)
	if err != nil {
		return nil, err
	}
	if config.HandshakeTimeout <= 0 {
		config.HandshakeTimeout = defaultHandshakeTimeout
	}
	if config.DialContext == nil {
		config.DialContext = new(net.Dialer).DialContext
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Subscription{
		config: config,
		url:    address,
		log:    config.Logger,
		rooms:  wanted,
		queue:  newQueue(),
		ended:  make(chan struct{}),
	}
	ctx, s.cancel = context.WithCancelCause(ctx)
	go s.run(ctx)
	return s, nil
}

// socketURL completes the address of a server's socket.
func socketURL(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("read the URL: %w", err)
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return "", fmt.Errorf("URL %q does not begin with ws:// or wss://", address)
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" {
		return "", fmt.Errorf("URL %q must have a host, and neither a user nor a fragment", u.Redacted())
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/ws"
	}
	return u.String(), nil
}

// Next returns the next event. It blocks until there is one, ctx ends, or the
// subscription is over: then it returns the events that came before, and after them
// the same error for ever. That error is
//   - [ErrClosed] after Close, which discards the events that wait,
//   - the cause of the context given to Subscribe, if that ended,
//   - an [*Error] that names the room, if the server refused to subscribe it for good,
//   - an [*Error] if the server refused the handshake for good, such as for its token,
//   - a [*CloseError] with a code that forbids reconnecting.
//
// It is safe for concurrent use, but then no goroutine sees all events in order.
func (s *Subscription) Next(ctx context.Context) (Event, error) { return s.queue.next(ctx) }

// Events returns an iterator over Next: it ends after the first error, which comes with
// a nil event. Leaving the loop early does not close the subscription.
func (s *Subscription) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			event, err := s.Next(ctx)
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Add subscribes one more room, after a position or from now on. It fails for a room
// that is subscribed; the server's refusal comes from Next.
func (s *Subscription) Add(room, after string) error { return s.rooms.add(room, after) }

// Remove unsubscribes a room. Events of it that wait for Next still come, and so may
// some that are under way.
func (s *Subscription) Remove(room string) { s.rooms.remove(room) }

// Close ends the subscription and waits for its goroutines, at most about a second. It
// may be called more than once.
func (s *Subscription) Close() {
	s.cancel(ErrClosed)
	<-s.ended
	if errors.Is(s.queue.reason(), ErrClosed) {
		s.queue.discard()
	}
}

// run connects again and again.
func (s *Subscription) run(ctx context.Context) {
	defer close(s.ended)
	defer s.cancel(ErrClosed) // frees the context's resources
	for {
		err := s.connect(ctx)
		if ctx.Err() != nil {
			s.queue.close(context.Cause(ctx))
			return
		}
		v := judge(err)
		if v.badToken && s.config.TokenSource != nil {
			v.stop, s.refused, s.refusedError = false, s.token, err
		}
		if v.stop {
			s.queue.close(unmarked(err))
			return
		}
		delay := v.delay(&s.backoff)
		s.log.Info("disconnected", "err", err, "retry_in", delay)
		lost := StateChange{State: Disconnected, Reason: reasonOf(err), Err: err, RetryIn: delay}
		if s.queue.push(ctx, lost, 0) == nil {
			_ = pause(ctx, delay) // the context's end shows in connect
		}
	}
}

// unmarked returns the error for the program.
func unmarked(err error) error {
	if final, ok := errors.AsType[finalError](err); ok {
		return final.error
	}
	return err
}

// connect makes one connection and serves it, and those that follow it without a
// break. It returns why the last one ended.
func (s *Subscription) connect(ctx context.Context) error {
	current, err := s.open(ctx, ctx, "")
	if err != nil {
		return err
	}
	for {
		next := s.successor(ctx, current)
		err = current.wait()
		if current.healthy() {
			s.backoff.reset()
		}
		if next == nil {
			break
		}
		current = next
	}
	s.token = current.token
	if closed, ok := errors.AsType[*CloseError](err); ok && closed.Code == closeNoAuth && s.token == "" {
		return finalError{err} // the server wants a token, and there will be none next time
	}
	return err
}

// open makes a connection while dialing lasts, which then lives as long as ctx. Where
// it replaces that of a node, its rooms are asked for beside that one.
func (s *Subscription) open(dialing, ctx context.Context, replaces string) (*session, error) {
	token, err := s.currentToken(dialing)
	if err != nil {
		return nil, err
	}
	s.token = token
	conn, err := s.dial(dialing, token)
	if err != nil {
		return nil, err
	}
	return newSession(ctx, s, conn, token, replaces), nil
}

// currentToken returns the token for a new connection. The same token again after it
// was refused is final: the source has no better one.
func (s *Subscription) currentToken(ctx context.Context) (string, error) {
	if s.config.TokenSource == nil {
		return s.config.Token, nil
	}
	token, err := s.config.TokenSource(ctx)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	if s.refusedError != nil && token == s.refused {
		return "", finalError{s.refusedError}
	}
	return token, nil
}
