package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
)

// hooked does something before it verifies a token.
type hooked struct {
	*auth.Verifier
	hook func()
}

func (v *hooked) Verify(token string, now time.Time) (*auth.Caller, error) {
	v.hook()
	return v.Verifier.Verify(token, now)
}

// hook has a gateway's verifier do something first.
func hook(c *Config, do func()) {
	v, _ := c.Verifier.(*auth.Verifier)
	c.Verifier = &hooked{Verifier: v, hook: do}
}

// TestBareLineFeeds: a request whose lines end as only the HTTP server takes them is
// served, and nothing of what follows it is taken for a part of it.
func TestBareLineFeeds(t *testing.T) {
	t.Parallel()
	ping := "\x89\x85    a\r\n\r\n" // masked by spaces
	for name, early := range map[string]string{"alone": "", "with an early frame": ping} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEdge(t, false, nil, func(t *testing.T, e *edge) {
				t.Helper()
				a := e.ask(t, e.dial(t), strings.ReplaceAll(request(), "\r\n", "\n")+early)
				if a.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("status %d: %s", a.StatusCode, a.body)
				}
				if early == "" {
					return
				}
				pong := make([]byte, 7)
				if _, err := io.ReadFull(a.buf, pong); err != nil || string(pong) != "\x8A\x05A-*-*" {
					t.Errorf("got %q, %v, want the pong", pong, err)
				}
			})
		})
	}
}

// TestGreetedCount: a connection counts also while its request is judged.
func TestGreetedCount(t *testing.T) {
	t.Parallel()
	const limit = 2
	judged, goOn := make(chan struct{}), make(chan struct{})
	change := func(c *Config) {
		c.MaxConnections = limit
		hook(c, func() {
			judged <- struct{}{}
			<-goOn
		})
	}
	onEdge(t, false, change, func(t *testing.T, e *edge) {
		t.Helper()
		for range limit {
			conn := e.dial(t)
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := conn.Write([]byte(request("Authorization: Bearer " + token(t, "ann", time.Hour)))); err != nil {
				t.Fatal(err)
			}
			<-judged
		}
		defer close(goOn)
		if a := e.ask(t, e.dial(t), request()); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d with the limit reached, want 503", a.StatusCode)
		}
	})
}

// TestPanicWhileGreeting costs the connection, and neither the process nor a place.
func TestPanicWhileGreeting(t *testing.T) {
	t.Parallel()
	change := func(c *Config) {
		c.MaxConnections = 1
		hook(c, func() { panic("broken") }) //nolint:forbidigo // what is tested
	}
	onEdge(t, false, change, func(t *testing.T, e *edge) {
		t.Helper()
		conn := e.dial(t)
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(realPatience))
		if _, err := conn.Write([]byte(request("Authorization: Bearer x"))); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
			t.Errorf("got %q, %v, want the end", got, err)
		}
		if a := e.ask(t, e.dial(t), request()); a.StatusCode != http.StatusSwitchingProtocols {
			t.Errorf("status %d after a panic, want a socket", a.StatusCode)
		}
		if !strings.Contains(e.logs.String(), "broken") {
			t.Errorf("the panic was not logged")
		}
	})
}

// halfPipe is a pipe that may be closed for writing, which its peer does not see.
type halfPipe struct{ net.Conn }

func (halfPipe) CloseWrite() error { return nil }

// TestRefusalDoesNotWait: who is refused may be silent; others do not wait for that, and
// it does not keep descriptors.
func TestRefusalDoesNotWait(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		f := &front{gw: w.gw}
		took := since(t)
		const more = 3
		ended := make(chan struct{}, maxRefusing+more)
		for range maxRefusing + more {
			ours, theirs := net.Pipe()
			go func() {
				answer, err := io.ReadAll(ours)
				if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503 ") {
					t.Errorf("got %q, %v, want 503 and the end", answer, err)
				}
				ended <- struct{}{}
			}()
			f.refuse(halfPipe{theirs})
		}
		synctest.Wait()
		if n := len(ended); n != more {
			t.Errorf("%d were closed at once, want %d", n, more)
		}
		took(0)
		f.wg.Wait()
		took(refuseTime)
		synctest.Wait()
		if n := len(ended); n != cap(ended) || len(f.refusing) != 0 {
			t.Errorf("%d were closed, %d are kept", n, len(f.refusing))
		}
	})
}

// TestManyRefused: each connection that is refused is told so, however many are silent.
func TestManyRefused(t *testing.T) {
	t.Parallel()
	change := func(c *Config) {
		guests(c, nil)
		c.MaxConnections = 1
	}
	onEdge(t, false, change, func(t *testing.T, e *edge) {
		t.Helper()
		if a := e.ask(t, e.dial(t), request()); a.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", a.StatusCode)
		}
		conns := make([]net.Conn, 300)
		for i := range conns {
			conns[i] = e.dial(t)
			defer func() { _ = conns[i].Close() }()
		}
		for i, conn := range conns {
			_ = conn.SetDeadline(time.Now().Add(realPatience))
			if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503 ") {
				t.Fatalf("connection %d got %q, %v, want 503 and the end", i, answer, err)
			}
		}
	})
}
