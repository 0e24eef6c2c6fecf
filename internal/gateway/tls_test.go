package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// tap keeps what was read of a connection.
type tap struct {
	net.Conn
	mu   sync.Mutex
	seen bytes.Buffer
}

func (c *tap) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen.Write(p[:n])
	return n, err
}

// tlsSocket.close says good-bye in TLS's words.
func TestTLSGoodbye(t *testing.T) {
	t.Parallel()
	onEdge(t, true, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		tapped := &tap{Conn: e.dial(t)}
		defer func() { _ = tapped.Close() }()
		p := e.connect(t, websocket.Dialer{NetDialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return tls.Client(tapped, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}), nil
		}}, "wss", "")
		p.want("welcome guest")
		p.raw(closeFrame(1000, ""))
		_ = p.rest()
		var types []byte
		for b := tapped.seen.Bytes(); len(b) >= 5; b = b[5+int(b[3])<<8+int(b[4]):] {
			types = append(types, b[0])
		}
		if types[len(types)-1] != 21 {
			t.Errorf("types of the records are %v, want an alert (21) last", types)
		}
	})
}

// A slow TLS reader gets everything in order, through records of its own (key
// updates) too.
func TestSlowTLS(t *testing.T) {
	t.Parallel()
	onEdge(t, true, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		p := e.connect(t, websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, "wss", "?room=a")
		p.want("welcome guest", `{"subscribed":{"room":"a","position":"@10"}}`)
		const messages = 1500
		pad := strings.Repeat("x", 8<<10)
		for i := range messages {
			e.bus.append("a", fmt.Sprint(i, pad))
			if i%100 == 0 {
				p.send(`{"id":1,"ping":{}}`)
			}
		}
		pongs := 0
		for i := 0; i < messages; {
			got, err := p.next()
			switch {
			case err != nil:
				t.Fatal(err)
			case got == `{"id":1,"pong":{}}`:
				pongs++
			case got != fmt.Sprint("m a ", i, pad):
				t.Fatalf("got %.40s at %d", got, i)
			default:
				i++
			}
		}
		if pongs != messages/100 {
			t.Errorf("%d pongs", pongs)
		}
	})
}

// TestUnreadRecords: a peer may have TLS answer (key updates) without end; what it does
// not read of that is bounded.
func TestUnreadRecords(t *testing.T) {
	t.Parallel()
	signals := 0
	c := &recordConn{}
	c.hand(func() { signals++ }, nil)
	c.setWriting(true)
	if _, err := c.Write(make([]byte, 2*maxPlain)); err != nil {
		t.Fatalf("the flusher's records: %v", err)
	}
	c.setWriting(false)
	written, record := 0, make([]byte, 27)
	for ; written < 10_000; written++ {
		if _, err := c.Write(record); err != nil {
			break
		}
	}
	if kept := len(c.take()); written == 10_000 || kept > 2*maxPlain+maxControlBytes+len(record) {
		t.Errorf("%d records were taken, %d bytes are kept", written, kept)
	}
	if signals != written {
		t.Errorf("%d signals for %d records", signals, written)
	}
}

// TestPlainRequest: who speaks HTTP where TLS is spoken is told so, however much it says,
// in the HTTP server's words; who speaks something else is not.
func TestPlainRequest(t *testing.T) {
	t.Parallel()
	onEdge(t, true, nil, func(t *testing.T, e *edge) {
		t.Helper()
		for _, sent := range []string{request(), request("POST /health HTTP/1.1", "X: "+strings.Repeat("x", 8<<10))} {
			a := e.ask(t, e.dial(t), sent)
			if a.StatusCode != http.StatusBadRequest || a.body != "Client sent an HTTP request to an HTTPS server.\n" {
				t.Errorf("got %d %q", a.StatusCode, a.body)
			}
		}
		conn := e.dial(t)
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("HELO me\r\n")); err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(conn); len(got) > 0 {
			t.Errorf("got %q", got)
		}
		if n := testutil.ToFloat64(e.metrics.Rejects.WithLabelValues("BAD_HANDSHAKE")); n != 2 {
			t.Errorf("%v were counted, want 2", n)
		}
	})
}

// TestLateHandshakes: who has waited too long for a processor does not get one: it would be
// gone before the end, and those after it as well.
func TestLateHandshakes(t *testing.T) {
	t.Parallel()
	borrowed := httptest.NewTLSServer(http.NotFoundHandler())
	cert := borrowed.TLS.Certificates[0]
	borrowed.Close()
	inBubble(t, guests, func(w *world) {
		t := w.t
		lis := &pipeListener{closed: make(chan struct{})}
		signed := 0
		f := &front{
			gw: w.gw, lis: lis, rest: newHandover(lis), greeting: make(map[net.Conn]instant),
			busy: make(chan struct{}, 1), hellos: make(chan struct{}, 1),
			tls: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { signed++; return &cert, nil }},
		}
		f.pace()
		defer f.stop()
		call := func() (*tls.Conn, <-chan error) {
			ours, theirs := net.Pipe()
			f.take(theirs)
			conn, ended := tls.Client(ours, &tls.Config{InsecureSkipVerify: true}), make(chan error, 1)
			go func() { ended <- conn.Handshake() }()
			return conn, ended
		}
		f.hellos <- struct{}{} // others, for five seconds
		_, first := call()
		elapse(handshakeTimeout / 4)
		conn, second := call()
		elapse(handshakeTimeout / 4)
		<-f.hellos
		if err := <-first; err == nil {
			t.Error("who has waited too long was served")
		}
		if err := <-second; err != nil || signed != 1 {
			t.Errorf("who has not waited too long got %v, with %d handshakes", err, signed)
		}
		if n := testutil.ToFloat64(w.metrics.Rejects.WithLabelValues("OVERLOADED")); n != 1 {
			t.Errorf("%v were counted as refused", n)
		}
		f.hellos <- struct{}{} // others again: who is through does not wait for them
		var answer [12]byte
		_, err := conn.Write([]byte(request()))
		if _, err2 := io.ReadFull(conn, answer[:]); err != nil || err2 != nil || string(answer[:]) != "HTTP/1.1 101" {
			t.Errorf("got %q, %v, %v", answer, err, err2)
		}
		_ = conn.NetConn().Close()
	})
}
