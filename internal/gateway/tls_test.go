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
	e := newEdge(t, true, func(c *Config) { guests(c, nil) })
	raw, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	tapped := &tap{Conn: raw}
	dialer := websocket.Dialer{NetDialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return tls.Client(tapped, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}), nil
	}}
	ws, answer, err := dialer.Dial("wss://"+e.addr+"/v1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	p := &peer{t: t, ws: ws}
	p.want("welcome guest")
	p.raw(closeFrame(1000, ""))
	_ = p.rest()
	_ = raw.Close()
	var types []byte
	for b := tapped.seen.Bytes(); len(b) >= 5; b = b[5+int(b[3])<<8+int(b[4]):] {
		types = append(types, b[0])
	}
	if types[len(types)-1] != 21 {
		t.Errorf("types of the records are %v, want an alert (21) last", types)
	}
}

// A slow TLS reader gets everything in order, through records of its own (key
// updates) too.
func TestSlowTLS(t *testing.T) {
	t.Parallel()
	e := newEdge(t, true, func(c *Config) { guests(c, nil) })
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, answer, err := dialer.Dial("wss://"+e.addr+"/v1/ws?room=a", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	defer func() { _ = ws.Close() }()
	p := &peer{t: t, ws: ws}
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
