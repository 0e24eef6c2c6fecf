package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	// maxFrame bounds a server frame: a body of 512 KiB, the server's own limit, in
	// base64 or with every byte escaped in JSON.
	maxFrame = 4 << 20

	// maxRefusal bounds how much of a refusal's text is shown.
	maxRefusal = 200
)

// dial opens a WebSocket with the token.
func (s *Subscription) dial(ctx context.Context, token string) (*websocket.Conn, error) {
	header := s.config.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	guard := &dialGuard{dial: s.config.DialContext}
	dialer := websocket.Dialer{
		NetDialContext:   guard.dialContext,
		Proxy:            http.ProxyFromEnvironment,
		TLSClientConfig:  s.config.TLS,
		HandshakeTimeout: s.config.HandshakeTimeout,
		Subprotocols:     []string{subprotocol},
		ReadBufferSize:   32 << 10, // many messages a system call while catching up
		WriteBufferSize:  1 << 10,  // requests are short
	}
	stop := context.AfterFunc(ctx, guard.close)
	defer stop()
	conn, resp, err := dialer.DialContext(ctx, s.url, header) //nolint:bodyclose // gorilla has read and closed it
	if errors.Is(err, websocket.ErrBadHandshake) {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // what came is good enough to show
		return nil, handshakeError(resp, bytes.TrimSpace(text))
	}
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	conn.SetReadLimit(maxFrame)
	return conn, nil
}

// dialGuard closes the connection of a handshake that is given up: gorilla minds the
// handshake's deadline but not the end of its context.
type dialGuard struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	conn   net.Conn // guarded by mu
	closed bool     // guarded by mu
}

func (g *dialGuard) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := g.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = conn.Close() // it was never used
		return nil, context.Canceled
	}
	g.conn = conn
	return conn, nil
}

func (g *dialGuard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.conn != nil {
		_ = g.conn.Close() // the handshake fails, which is what is wanted
	}
}
