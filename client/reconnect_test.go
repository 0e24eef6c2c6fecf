package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// These tests run in synctest bubbles: time is virtual, the sockets are in-memory
// pipes, gorilla and net/http are real.

func TestBackoffGrowsAndIsCapped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		var tries []time.Time
		sub, err := Subscribe(t.Context(), Config{
			URL: "ws://roomcast.test",
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				tries = append(tries, time.Now())
				return nil, down
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ceiling := backoffBase
		for i := range 40 {
			lost := nextState(t, sub, Disconnected)
			if !errors.Is(lost.Err, down) {
				t.Fatalf("got %v, want the dial's error", lost.Err)
			}
			if lost.RetryIn < 0 || lost.RetryIn > ceiling {
				t.Errorf("try %d: got %s, want up to %s", i, lost.RetryIn, ceiling)
			}
			ceiling = min(2*ceiling, backoffLimit)
		}
		sub.Close()
		if all := tries[len(tries)-1].Sub(tries[20]); all < 30*time.Second {
			t.Errorf("got 20 tries in %s, want them to be far apart", all)
		}
	})
}

// TestBackoffResets looks at the wait after the eighth short connection.
func TestBackoffResets(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		serve  func(*socketConn)
		resets bool
	}{
		"welcome only": {func(*socketConn) {}, false},
		"a message": {func(c *socketConn) {
			c.send(`{"message":{"room":"a","id":"e.1.a"}}`)
		}, true},
		"30 seconds": {func(c *socketConn) {
			<-time.After(healthyAfter)
		}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newVirtualServer(t)
				sub := server.subscribe(Config{})
				longest := time.Duration(0)
				for range 60 {
					conn := server.welcome()
					test.serve(conn)
					conn.drop()
					longest = max(longest, nextState(t, sub, Disconnected).RetryIn)
				}
				// 60 draws from 0 to 250 ms all stay below; 60 from up to 30 s do not.
				if resets := longest <= backoffBase; resets != test.resets {
					t.Errorf("got a longest wait of %s, want reset %t", longest, test.resets)
				}
			})
		})
	}
}

// TestLiveness looks at how long a connection that falls silent is kept.
func TestLiveness(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		speak func(*socketConn) // every 40 s, five times
		want  time.Duration     // from the welcome to the end
	}{
		"silent": {nil, 50 * time.Second},
		"pings": {func(c *socketConn) {
			if err := c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)); err != nil {
				c.t.Errorf("ping: %v", err)
			}
		}, 250 * time.Second},
		"frames": {func(c *socketConn) { c.send(`{"pong":{}}`) }, 250 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newVirtualServer(t)
				sub := server.subscribe(Config{})
				conn := server.welcome() // pings every 25 s
				pongs := make(chan int, 1)
				go func() {
					n := 0
					conn.conn.SetPongHandler(func(string) error { n++; return nil })
					_, _, _ = conn.conn.ReadMessage() // ends with the connection
					pongs <- n
				}()
				start := time.Now()
				for range 5 {
					if test.speak != nil {
						<-time.After(40 * time.Second)
						test.speak(conn)
					}
				}
				lost := nextState(t, sub, Disconnected)
				if got := time.Since(start); got != test.want {
					t.Errorf("got the end after %s, want %s", got, test.want)
				}
				if timeout, ok := errors.AsType[net.Error](lost.Err); !ok || !timeout.Timeout() {
					t.Errorf("got %v, want a timeout", lost.Err)
				}
				if n := <-pongs; name == "pings" && n != 5 {
					t.Errorf("got %d pongs, want 5", n)
				}
			})
		})
	}
}

// TestRetryHints looks at the wait that a close or a refused handshake asks for.
func TestRetryHints(t *testing.T) {
	t.Parallel()
	closeWith := func(code int, reason string) func(*socketServer) {
		return func(s *socketServer) { s.welcome().close(code, reason) }
	}
	tests := map[string]struct {
		fail     func(*socketServer)
		min, max time.Duration
		reason   string
	}{
		"1012 after its wait":       {closeWith(1012, "draining retry_ms=9000"), 9 * time.Second, 9*time.Second + backoffBase, "draining"},
		"1001 without a wait":       {closeWith(1001, ""), 0, backoffBase, "CONNECTION_LOST"},
		"1013 after its wait":       {closeWith(1013, "overloaded retry_ms=5000"), 5 * time.Second, 5*time.Second + backoffBase, "overloaded"},
		"4429 after its wait":       {closeWith(4429, "too_fast retry_ms=3000"), 3 * time.Second, 3*time.Second + backoffBase, "too_fast"},
		"4408 with a token":         {closeWith(4408, "no_auth retry_ms=1000"), time.Second, time.Second + backoffBase, "no_auth"},
		"4504 soon":                 {closeWith(4504, "no_pong"), 0, backoffBase, "no_pong"},
		"a private code unheard of": {closeWith(4777, "news"), 0, backoffBase, "news"},
		"broken off":                {func(s *socketServer) { s.welcome().drop() }, 0, backoffBase, "CONNECTION_LOST"},
		"503 after its wait": {func(s *socketServer) {
			s.refuseWith(func(w http.ResponseWriter, _ *http.Request) {
				s.refuseWith(nil)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusServiceUnavailable)
			})
		}, 7 * time.Second, 7*time.Second + backoffBase, "HANDSHAKE_REFUSED"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newVirtualServer(t)
				if name == "503 after its wait" {
					test.fail(server) // before the handshake
				}
				sub := server.subscribe(Config{Token: "t"})
				if name != "503 after its wait" {
					test.fail(server)
				}
				lost := nextState(t, sub, Disconnected)
				start := time.Now()
				if lost.RetryIn < test.min || lost.RetryIn > test.max {
					t.Errorf("got a wait of %s, want %s to %s", lost.RetryIn, test.min, test.max)
				}
				if lost.Reason != test.reason {
					t.Errorf("got reason %q, want %q", lost.Reason, test.reason)
				}
				server.welcome()
				if got := time.Since(start); got != lost.RetryIn {
					t.Errorf("got the next connection after %s, want %s", got, lost.RetryIn)
				}
			})
		})
	}
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newVirtualServer(t)
		calls := 0
		server.subscribe(Config{TokenSource: func(context.Context) (string, error) {
			calls++
			return fmt.Sprintf("token%d", calls), nil
		}})
		conn := server.welcome()
		start := time.Now()
		for n, life := range []time.Duration{10 * time.Minute, time.Minute, time.Second} {
			frame := conn.receive()
			want := clientFrame{ID: frame.ID, Auth: &authFrame{Token: fmt.Sprintf("token%d", n+1)}}
			if diff := cmp.Diff(want, frame); diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
			conn.send(fmt.Sprintf(`{"id":%d,"authenticated":{"expires":%q}}`,
				frame.ID, time.Now().Add(life).UTC().Format(time.RFC3339Nano)))
			keepAlive(conn, time.Now().Add(life))
		}
		conn.receive()
		// A minute before 10, a fifth before 1, and never sooner than 10 s.
		if got, want := time.Since(start), 9*time.Minute+48*time.Second+10*time.Second; got != want {
			t.Errorf("got the last renewal after %s, want %s", got, want)
		}
	})
}

// keepAlive pings every 25 s until a time; each ping is sent by a timer of its own.
func keepAlive(conn *socketConn, until time.Time) {
	for at := 25 * time.Second; time.Now().Add(at).Before(until); at += 25 * time.Second {
		timer := time.AfterFunc(at, func() {
			_ = conn.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) // the test may be over
		})
		conn.t.Cleanup(func() { timer.Stop() })
	}
}

// TestRefusedRenewal lets the server refuse the newer token: the connection goes on.
func TestRefusedRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newVirtualServer(t)
		sub := server.subscribe(Config{TokenSource: func(context.Context) (string, error) { return "t", nil }})
		conn := server.welcome()
		frame := conn.receive()
		conn.send(
			fmt.Sprintf(`{"id":%d,"error":{"code":"UNAUTHENTICATED","reason":"OTHER_USER"}}`, frame.ID),
			`{"message":{"room":"a","id":"e.1.a"}}`,
		)
		next[Delivery](t, sub)
		conn.close(4501, "token_expired")
		if got := nextState(t, sub, Disconnected).Reason; got != "token_expired" {
			t.Errorf("got %q, want token_expired", got)
		}
		server.welcome()
	})
}

// TestCloseDuringHandshake closes while the server sits on the upgrade.
func TestCloseDuringHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newVirtualServer(t)
		asked, release := make(chan struct{}), make(chan struct{})
		server.refuseWith(func(http.ResponseWriter, *http.Request) {
			close(asked)
			<-release
		})
		sub := server.subscribe(Config{})
		<-asked
		start := time.Now()
		sub.Close()
		if got := time.Since(start); got > 0 {
			t.Errorf("got a close after %s, want at once", got)
		}
		close(release)
	})
}

func TestWelcomeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newVirtualServer(t)
		sub := server.subscribe(Config{HandshakeTimeout: 3 * time.Second})
		start := time.Now()
		server.accept()
		nextState(t, sub, Disconnected)
		// This server does not read, so that the goodbye takes its time too.
		if got, want := time.Since(start), 3*time.Second+2*closeGrace; got != want {
			t.Errorf("got the end after %s, want %s", got, want)
		}
	})
}
