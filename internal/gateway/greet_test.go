package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// caller is a connection that has said nothing yet.
func (w *world) caller() net.Conn {
	w.t.Helper()
	conn, err := w.listener.dial(w.t.Context(), "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestHandshakeTimeout: whoever does not ask in time is closed without a word, however
// busy it is.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	whole := request()
	tests := map[string]struct {
		sent  string
		every time.Duration // a byte each; 0 = all at once
	}{
		"nothing":                 {},
		"half a socket's request": {sent: whole[:len(whole)/2]},
		"another half request":    {sent: "GET /health HTTP/1.1\r\nHost:"},
		"byte by byte":            {sent: whole, every: handshakeTimeout / 20},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				t := w.t
				conn := w.caller()
				took := since(t)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					step := len(test.sent)
					if test.every > 0 {
						step = 1
					}
					for data := test.sent; data != ""; data = data[step:] {
						if _, err := conn.Write([]byte(data[:step])); err != nil {
							return
						}
						<-time.After(test.every)
					}
				}()
				if data, err := io.ReadAll(conn); len(data) > 0 || err != nil {
					t.Errorf("got %q, %v, want the end", data, err)
				}
				took(handshakeTimeout)
				<-sent
			})
		})
	}
}

// TestSlowHandshake: a request may come byte by byte, if it is whole in time.
func TestSlowHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		conn := w.caller()
		whole := request("X-Padding: " + strings.Repeat("x", maxHead/2))
		for _, b := range []byte(whole) {
			if _, err := conn.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			<-time.After(handshakeTimeout / time.Duration(2*len(whole)))
		}
		var answer [12]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil || string(answer[:]) != "HTTP/1.1 101" {
			t.Errorf("got %q, %v", answer, err)
		}
		_ = conn.Close()
	})
}

// TestUnreadHTTPAnswers: a client that asks and does not read keeps neither goroutine nor
// descriptor.
func TestUnreadHTTPAnswers(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/health", "/v1/ws", "/nothing"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(w *world) {
				t := w.t
				conn := w.caller()
				if _, err := conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
					t.Fatal(err)
				}
				elapse(writeTimeout + sweepTime)
				var answer [12]byte
				if n, err := conn.Read(answer[:]); n > 0 || !errors.Is(err, io.EOF) {
					t.Errorf("got %q, %v, want the end", answer[:n], err)
				}
				_ = conn.Close()
			})
		})
	}
}

// TestAnswerWaits: the answer to a handshake goes out with those of the rooms that it
// names, unless they let wait for them.
func TestAnswerWaits(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		target string
		opens  time.Duration // the room, after so long; 0 = never
		want   time.Duration // until the answer
	}{
		"no room":                {target: "/v1/ws"},
		"a room":                 {target: "/v1/ws?room=a", opens: answerWithin / 2, want: answerWithin / 2},
		"a room that is delayed": {target: "/v1/ws?room=a", opens: 2 * answerWithin, want: answerWithin},
		"a room that is not":     {target: "/v1/ws?room=a", want: answerWithin},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent := func(c *Config, b *bus) {
				guests(c, b)
				b.silent = true
			}
			inBubble(t, silent, func(w *world) {
				conn, began := w.caller(), time.Now()
				if _, err := conn.Write([]byte(request("GET " + test.target + " HTTP/1.1"))); err != nil {
					w.t.Fatal(err)
				}
				if test.opens > 0 {
					time.AfterFunc(test.opens, func() { w.bus.set(func() { w.bus.rooms["a"].Opened(at(start)) }) })
				}
				var answer [12]byte
				if _, err := io.ReadFull(conn, answer[:]); err != nil || string(answer[:]) != "HTTP/1.1 101" {
					w.t.Errorf("got %q, %v", answer, err)
				}
				if took := time.Since(began); took != test.want {
					w.t.Errorf("the answer took %v, want %v", took, test.want)
				}
				_ = conn.Close()
			})
		})
	}
}

// TestParseHeader: what counts as usual is read as the HTTP server reads it.
func TestParseHeader(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		lines string
		usual bool
	}{
		"none":                 {"", true},
		"one":                  {"Host: a\r\n", true},
		"case":                 {"hOsT: a\r\nsec-websocket-key: b\r\n", true},
		"twice":                {"A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n", true},
		"blanks and colons":    {"A:  1: 2 \r\nB:\r\n", true},
		"beyond ASCII":         {"A: \u00e4\xff\r\n", true},
		"no colon":             {"A\r\n", false},
		"no name":              {": a\r\n", false},
		"goes on":              {"A: 1\r\n 2\r\n", false},
		"a blank before colon": {"A : 1\r\n", false},
		"odd name":             {"A!: 1\r\n", false},
		"a carriage return":    {"A: 1\r2\r\n", false},
		"a line feed":          {"A: 1\n2\r\n", false},
		"a tab":                {"A: 1\t2\r\n", false},
		"a NUL":                {"A: \x00\r\n", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parseHeader(test.lines)
			if (got != nil) != test.usual {
				t.Fatalf("got %v, want it usual: %v", got, test.usual)
			}
			want, err := textproto.NewReader(bufio.NewReader(strings.NewReader(test.lines + "\r\n"))).ReadMIMEHeader()
			if test.usual && (err != nil || !cmp.Equal(http.Header(want), got)) {
				t.Errorf("got %v, want %v, %v", got, want, err)
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	text := request("GET /v1/ws?room=a HTTP/1.1", "Sec-WebSocket-Protocol: roomcast.v1.json", "Authorization: Bearer "+strings.Repeat("x", 300))
	h := &head{buf: []byte(text), n: len(text), size: len(text)}
	b.ReportAllocs()
	for b.Loop() {
		if h.request() == nil {
			b.Fatal("it is not usual")
		}
	}
}
