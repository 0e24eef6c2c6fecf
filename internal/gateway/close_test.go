package gateway

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// rest reads all bytes that follow on the connection.
func (p *peer) rest() string {
	p.t.Helper()
	data, err := io.ReadAll(p.ws.NetConn())
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return string(data)
}

// serverClose is the close frame of the server.
func serverClose(code uint16, reason string) string {
	body := string(binary.BigEndian.AppendUint16(nil, code)) + reason
	return string([]byte{closeOp, byte(len(body))}) + body
}

// TestPeerCloses: the same code comes back, then the connection ends at once, by the
// server.
func TestPeerCloses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sent, answer, label string
	}{
		"1000":       {closeFrame(1000, "bye"), serverClose(1000, "CLIENT_CLOSED"), "1000"},
		"1001":       {closeFrame(1001, ""), serverClose(1001, "CLIENT_CLOSED"), "1001"},
		"no code":    {frame(closeOp, ""), string([]byte{closeOp, 0}), "1005"},
		"own code":   {closeFrame(4999, "x"), serverClose(4999, "CLIENT_CLOSED"), "other"},
		"our code":   {closeFrame(1012, "x"), serverClose(1012, "CLIENT_CLOSED"), "other"},
		"bad code":   {closeFrame(1006, ""), serverClose(1002, "PROTOCOL_ERROR close code may not be sent"), "1002"},
		"half code":  {frame(closeOp, "x"), serverClose(1002, "PROTOCOL_ERROR close frame with half a code"), "1002"},
		"bad reason": {closeFrame(1000, "\xff"), serverClose(1007, "INVALID_TEXT close reason is not UTF-8"), "1007"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				t := w.t
				p := w.guest("")
				took := since(t)
				p.raw(test.sent)
				if got := p.rest(); got != test.answer {
					t.Errorf("got %q, want %q", got, test.answer)
				}
				if test.label == "1002" || test.label == "1007" {
					took(closeGrace) // for what the peer still sends
				} else {
					took(0)
				}
				w.wantCloses(map[string]int{test.label: 1})
			})
		})
	}
}

func TestProtocolFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sent   string
		code   int
		reason string
	}{
		"unmasked":    {"\x81\x02{}", 1002, "PROTOCOL_ERROR frame is not masked"},
		"not UTF-8":   {frame(fin|text, "\xff"), 1007, "INVALID_TEXT text is not UTF-8"},
		"too big":     {"\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff", 1009, "PAYLOAD_TOO_LARGE the limit is 409600 bytes"},
		"binary":      {frame(fin|binaryOp, "{}"), 1003, "BINARY_FRAME"},
		"compression": {frame(fin|0x40|text, "{}"), 1002, "PROTOCOL_ERROR reserved bits are set"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				p := w.guest("")
				p.raw(test.sent)
				p.wantClose(test.code, test.reason)
			})
		})
	}
}

// TestFaultReadsOn: closing over bytes that were not read would reset the connection,
// and the peer could lose the close frame.
func TestFaultReadsOn(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		p := w.guest("")
		p.raw("\x81\xff\x00\x00\x00\x00\x00\x10\x00\x00mask")
		for range 16 {
			p.raw(strings.Repeat("x", 64<<10))
		}
		p.wantClose(1009, "PAYLOAD_TOO_LARGE the limit is 409600 bytes")
	})
}

// TestNothingAfterClose: the close frame is the last, also when requests follow the
// one that broke the rules.
func TestNothingAfterClose(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		p.raw(frame(fin|binaryOp, "") + frame(fin|text, `{"id":1,"ping":{}}`) + frame(ping, "x"))
		w.bus.append("a", "x")
		if got := p.rest(); !strings.HasSuffix(got, serverClose(1003, "BINARY_FRAME")) || strings.Contains(got, "pong") {
			t.Errorf("got %q, want the close frame last and no answers", got)
		}
	})
}

// TestCloseBehindFullSocket: a peer that does not read does not get its close frame,
// and costs a second.
func TestCloseBehindFullSocket(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		w.bus.append("a", "x")
		elapse(time.Second)
		took := since(t)
		w.gw.Drain(t.Context(), 0)
		took(closeGrace)
		w.wantCloses(map[string]int{"1012": 1})
		if got := p.rest(); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

func TestPeerIsGone(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		_ = p.ws.NetConn().Close()
		took := since(t)
		w.wantCloses(map[string]int{"1006": 1})
		took(0)
		if n := w.gw.Connections() + w.hub.Rooms(); n != 0 {
			t.Errorf("%d sockets and rooms are left", n)
		}
	})
}

func TestConnectionEndedIsLogged(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		secret := token(t, "ann", time.Hour)
		p := w.dial("", secret)
		p.want("welcome ann")
		elapse(1500 * time.Millisecond)
		p.raw(closeFrame(1000, "secret reason"))
		_ = p.rest()
		elapse(0)
		var line map[string]any
		for text := range strings.SplitSeq(w.logs.String(), "\n") {
			if strings.Contains(text, "connection ended") {
				if err := json.Unmarshal([]byte(text), &line); err != nil {
					t.Fatal(err)
				}
			}
		}
		for key, want := range map[string]any{
			"level": "INFO", "part": "gateway", "user": "ann", "code": 1000.0, "reason": "CLIENT_CLOSED", "duration": "1.5s",
		} {
			if line[key] != want {
				t.Errorf("%s is %v, want %v", key, line[key], want)
			}
		}
		if strings.Contains(w.logs.String(), "secret") || strings.Contains(w.logs.String(), secret) {
			t.Error("the log holds what a client has sent")
		}
	})
}

// panics breaks where a part of a session calls out.
type panics struct{}

func (panics) write(frames [][]byte) (int64, bool, error) {
	if len(frames) == 0 {
		return 0, false, nil
	}
	panic("writing") //nolint:forbidigo // what the test is about
}

func (panics) finish() {}

func (panics) Publish(context.Context, *room.Publication, func(room.Ack, error)) {
	panic("publishing") //nolint:forbidigo // what the test is about
}

// TestPanicCostsOneSocket breaks the reader and the writer of a socket.
func TestPanicCostsOneSocket(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ request, logged string }{
		"reader":  {`{"publish":{"room":"chat:1"}}`, "publishing"},
		"flusher": {`{"id":1,"ping":{}}`, "writing"},
	}
	for part, test := range tests {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			broken := func(c *Config, b *bus) {
				guests(c, b)
				c.NewSequence = func() Sequence { return panics{} }
			}
			inBubble(t, broken, func(w *world) {
				t := w.t
				p := w.guest("?room=b")
				if part == "flusher" {
					p.want(`{"subscribed":{"room":"b","position":"@10"}}`)
					synctest.Wait()
					for _, s := range w.gw.roster.all() {
						s.w.sock = panics{}
					}
				}
				other := w.guest("")
				p.send(test.request)
				if part == "reader" {
					p.wantClose(1011, "INTERNAL")
				}
				elapse(2 * closeGrace)
				w.wantCloses(map[string]int{"1011": 1})
				for _, want := range []string{`"msg":"panic"`, `"part":"` + part, test.logged, "close_test.go"} {
					if !strings.Contains(w.logs.String(), want) {
						t.Errorf("the log has no %s", want)
					}
				}
				other.ask(`{"id":1,"ping":{}}`, `{"id":1,"pong":{}}`)
				if n := w.hub.Rooms(); n != 0 {
					t.Errorf("%d rooms are left", n)
				}
			})
		})
	}
}

// TestPanicInClock: a panic while the clocks are looked at costs one socket.
func TestPanicInClock(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		w.guest("")
		synctest.Wait()
		for _, s := range w.gw.roster.all() {
			s.w.sock = panics{} // the ping will find it
			s.signal()
		}
		elapse(defaultPing + 2*closeGrace)
		w.wantCloses(map[string]int{"1011": 1})
	})
}

func TestClosingReasonsFit(t *testing.T) {
	t.Parallel()
	long := closing{code: 1002, word: "WORD", retry: time.Second, detail: strings.Repeat("x", 200)}
	if got := long.reason(); got != "WORD retry_ms=1000" {
		t.Errorf("got %q, want the detail left out", got)
	}
	for _, how := range []closing{
		closeNode, closeInternal, closeBinary, closeText, closeBad, closeNoAuth, closeStalled,
		closeTooFast, closeUnread, closeExpired, closeTooSlow, closeNoPong,
	} {
		// The contract's §7: 4408 and 4429 always say when to come again.
		if needs := how.code == codeTimeout || how.code == codeTooFast; needs && how.retry == 0 || how.word == "" {
			t.Errorf("%d %q has no retry_ms or no word", how.code, how.reason())
		}
	}
}

// outer is a connection over another, as TLS is. To close it panics: it has no Conn.
type outer struct {
	net.Conn
	inner net.Conn
}

func (o outer) NetConn() net.Conn { return o.inner }

func TestDropGoesBelowTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	s := &session{conn: outer{inner: outer{inner: ours}}, flusher: &flusher{}}
	s.drop()
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of the connection", err)
	}
	_ = theirs.Close()
}
