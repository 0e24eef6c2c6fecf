package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
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
