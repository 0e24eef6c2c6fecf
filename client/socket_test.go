package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// testTimeout is long because in a bubble it is virtual; on real sockets go test's own
// limit comes first.
const testTimeout = time.Hour

// socketServer plays the server's side of /v1/ws: a test accepts each connection and
// says what is sent on it.
type socketServer struct {
	t        *testing.T
	url      string
	dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil = real sockets
	accepted chan *socketConn

	mu     sync.Mutex
	refuse http.HandlerFunc // guarded by mu; answers instead of upgrading
	tokens []string         // guarded by mu; of all handshakes
}

// newSocketServer serves on a real loopback socket.
func newSocketServer(t *testing.T) *socketServer {
	t.Helper()
	s := &socketServer{t: t, accepted: make(chan *socketConn, 16)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = "ws" + strings.TrimPrefix(server.URL, "http") + "/v1/ws"
	return s
}

// newVirtualServer serves on in-memory pipes, so that it can live in a synctest bubble.
func newVirtualServer(t *testing.T) *socketServer {
	t.Helper()
	s := &socketServer{t: t, url: "ws://roomcast.test/v1/ws", accepted: make(chan *socketConn, 16)}
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.dial = listener.dial
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return s
}

func (s *socketServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.tokens = append(s.tokens, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		refuse(w, r)
		return
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{subprotocol}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the client was closed meanwhile
	}
	if conn.Subprotocol() != subprotocol {
		s.t.Errorf("got subprotocol %q, want %q", conn.Subprotocol(), subprotocol)
	}
	s.accepted <- &socketConn{t: s.t, conn: conn}
}

func (s *socketServer) refuseWith(handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = handler
}

func (s *socketServer) seenTokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.tokens...)
}

// accept returns the next connection, without a word said.
func (s *socketServer) accept() *socketConn {
	s.t.Helper()
	select {
	case c := <-s.accepted:
		s.t.Cleanup(func() { _ = c.conn.Close() })
		return c
	case <-time.After(testTimeout):
		s.t.Fatal("got no connection")
		return nil
	}
}

// welcome returns the next connection, welcomed.
func (s *socketServer) welcome() *socketConn {
	s.t.Helper()
	c := s.accept()
	c.send(`{"welcome":{"connection":"c1","user":"ann","node":"n1","pingMs":25000,"version":"v"}}`)
	return c
}

// subscribe subscribes with the test's server filled in, and closes with the test.
func (s *socketServer) subscribe(config Config) *Subscription {
	s.t.Helper()
	config.URL, config.DialContext = s.url, s.dial
	if s.dial == nil { // real time: the test may stand still
		config.HandshakeTimeout = testTimeout
	}
	sub, err := Subscribe(context.Background(), config)
	if err != nil {
		s.t.Fatalf("subscribe: %v", err)
	}
	s.t.Cleanup(sub.Close)
	return sub
}

// socketConn is the server's end of one connection.
type socketConn struct {
	t    *testing.T
	conn *websocket.Conn
}

func (c *socketConn) send(frames ...string) {
	c.t.Helper()
	for _, frame := range frames {
		_ = c.conn.SetWriteDeadline(time.Now().Add(testTimeout))
		if err := c.conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			c.t.Fatalf("send %s: %v", frame, err)
		}
	}
}

// receive returns the next frame of the client.
func (c *socketConn) receive() clientFrame {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(testTimeout))
	_, raw, err := c.conn.ReadMessage()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	var frame clientFrame
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&frame); err != nil {
		c.t.Fatalf("decode %s: %v", raw, err)
	}
	return frame
}

// wantSubscribe reads a subscribe and returns its id.
func (c *socketConn) wantSubscribe(room, after string) uint32 {
	c.t.Helper()
	got := c.receive()
	want := clientFrame{ID: got.ID, Subscribe: &subscribeFrame{Room: room, After: after}}
	if diff := cmp.Diff(want, got); diff != "" || got.ID == 0 {
		c.t.Fatalf("frame: (-want +got)\n%s", diff)
	}
	return got.ID
}

// answer answers a subscribe.
func (c *socketConn) answer(id uint32, room, position string) {
	c.t.Helper()
	frame, err := json.Marshal(map[string]any{"id": id, "subscribed": subscribedFrame{room, position}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(string(frame))
}

// drop breaks the connection without a goodbye.
func (c *socketConn) drop() { _ = c.conn.NetConn().Close() }

func (c *socketConn) close(code int, reason string) {
	c.t.Helper()
	message := websocket.FormatCloseMessage(code, reason)
	if err := c.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(testTimeout)); err != nil {
		c.t.Fatalf("close: %v", err)
	}
	_ = c.conn.Close()
}

// wantGoodbye reads until the client closes, and checks that it does so with 1000.
func (c *socketConn) wantGoodbye() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(testTimeout))
	for {
		_, _, err := c.conn.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return
		}
		if err != nil {
			c.t.Fatalf("got %v, want a close with 1000", err)
		}
	}
}

// pipeListener is a network of in-memory pipes.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	server, client := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// nextEvent returns the next event.
func nextEvent(t *testing.T, sub *Subscription) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	event, err := sub.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return event
}

// next returns the next event of type E and passes over others.
func next[E Event](t *testing.T, sub *Subscription) E {
	t.Helper()
	for {
		if event, ok := nextEvent(t, sub).(E); ok {
			return event
		}
	}
}

// nextState returns the next change to a state.
func nextState(t *testing.T, sub *Subscription, state State) StateChange {
	t.Helper()
	for {
		if change := next[StateChange](t, sub); change.State == state {
			return change
		}
	}
}

// finalErrorOf passes over events until the subscription is over.
func finalErrorOf(t *testing.T, sub *Subscription) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	for _, err := range sub.Events(ctx) {
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("the subscription goes on")
			}
			return err
		}
	}
	return nil
}
