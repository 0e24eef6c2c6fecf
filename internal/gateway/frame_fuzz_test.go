package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// frameCase is a client's bytes and what a reader must make of them.
type frameCase struct {
	data    string
	events  []string
	err     string // prefix
	partial bool
}

// frameCases has the sections of the Autobahn test suite that concern a server's
// reader: 1 framing, 2 pings and pongs, 3 reserved bits, 4 opcodes, 5 fragmentation,
// 6 UTF-8, 7 closing, and 9 limits.
func frameCases() map[string]frameCase {
	cases := map[string]frameCase{}
	ok := func(name, data string, events ...string) { cases[name] = frameCase{data: data, events: events} }
	bad := func(name string, code int, data string, events ...string) {
		cases[name] = frameCase{data: data, events: events, err: fmt.Sprintf("close %d: ", code)}
	}
	open := func(name, data string, events ...string) {
		cases[name] = frameCase{data: data, events: events, partial: true}
	}
	framingCases(ok, bad, open)
	controlCases(ok, bad)
	fragmentCases(ok, bad, open)
	textCases(ok, bad)
	closeCases(ok, bad)
	return cases
}

type (
	okCase  func(name, data string, events ...string)
	badCase func(name string, code int, data string, events ...string)
)

const (
	gotA = `message 1 "a"`
	gotB = `message 1 "b"`
)

func framingCases(ok okCase, bad badCase, open okCase) {
	for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, testLimit} {
		payload := strings.Repeat("*", n)
		ok(fmt.Sprintf("1.1 text of %d", n), frame(fin|text, payload), fmt.Sprintf("message 1 %q", payload))
		payload = strings.Repeat("\xfe", n)
		ok(fmt.Sprintf("1.2 binary of %d", n), frame(fin|binaryOp, payload), fmt.Sprintf("message 2 %q", payload))
	}
	bad("9 too big", 1009, frame(fin|text, strings.Repeat("x", testLimit+1)))
	bad("9 too big in fragments", 1009, frame(text, strings.Repeat("x", testLimit))+frame(ping, "")+frame(fin|more, "x"), `ping ""`)
	ok("9 limit in fragments", frame(binaryOp, strings.Repeat("x", testLimit-1))+frame(fin|more, "x"),
		fmt.Sprintf("message 2 %q", strings.Repeat("x", testLimit)))

	ok("9 pings are not in the limit", frame(binaryOp, strings.Repeat("x", testLimit))+frame(ping, "p")+frame(fin|more, ""),
		`ping "p"`, fmt.Sprintf("message 2 %q", strings.Repeat("x", testLimit)))

	mask := "\x00\x00\x00\x00"
	bad("5.2 16 bits for 125", 1002, "\x82\xfe\x00\x7d"+mask)
	bad("5.2 64 bits for 65535", 1002, "\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff"+mask)
	bad("5.2 64 bits for 1", 1002, "\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01"+mask+"x")
	bad("5.2 highest bit of length", 1002, "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"+mask)
	bad("5.2 all bits of length", 1002, "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff"+mask)
	bad("5.2 2^63-1", 1009, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"+mask)
	bad("5.1 not masked", 1002, "\x81\x01x")
	bad("5.1 ping not masked", 1002, frame(fin|text, "a")+"\x89\x00", gotA)

	for rsv := byte(1); rsv <= 7; rsv++ {
		bad(fmt.Sprintf("3 RSV %03b on text", rsv), 1002, frame(fin|text, "a")+frame(fin|rsv<<4|text, "b")+frame(ping, ""), gotA)
		bad(fmt.Sprintf("3 RSV %03b on ping", rsv), 1002, frame(rsv<<4|ping, "b"))
		bad(fmt.Sprintf("3 RSV %03b on close", rsv), 1002, frame(rsv<<4|closeOp, ""))
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		bad(fmt.Sprintf("4 opcode %d", op), 1002, frame(fin|text, "a")+frame(fin|op, "")+frame(ping, ""), gotA)
		bad(fmt.Sprintf("4 opcode %d without FIN", op), 1002, frame(op, "x"))
	}

	ok("nothing", "")
	open("one byte", "\x81")
	open("half a header", "\x81\x85\x01")
	open("header only", "\x81\x85\x01\x02\x03\x04")
	open("all but a byte", frame(fin|text, "a")+frame(fin|text, "b")[:6], gotA)
	open("half a ping", frame(ping, "12345")[:8])
}

func controlCases(ok okCase, bad badCase) {
	for _, payload := range []string{"", "Hello", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", strings.Repeat("\xfe", 125)} {
		ok(fmt.Sprintf("2 ping of %d", len(payload)), frame(ping, payload)+frame(fin|text, "a"), fmt.Sprintf("ping %q", payload), gotA)
		ok(fmt.Sprintf("2 pong of %d", len(payload)), frame(pong, payload), fmt.Sprintf("pong %q", payload))
	}
	ok("2.10 ten pings", strings.Repeat(frame(ping, "x"), 10), slices.Repeat([]string{`ping "x"`}, 10)...)
	bad("2.5 ping of 126", 1002, frame(ping, strings.Repeat("x", 126)))
	bad("2.5 pong of 65536", 1002, frame(pong, strings.Repeat("x", 65536)))
	bad("5.1 ping in fragments", 1002, frame(ping&^fin, "a")+frame(fin|more, "b"))
	bad("5.2 pong in fragments", 1002, frame(pong&^fin, "a")+frame(fin|more, "b"))
	bad("close in fragments", 1002, frame(closeOp&^fin, ""))
}

func fragmentCases(ok okCase, bad badCase, open okCase) {
	ok("5.3 two fragments", frame(text, "one ")+frame(fin|more, "two"), `message 1 "one two"`)
	ok("5.6 ping between", frame(text, "one ")+frame(ping, "p")+frame(fin|more, "two"), `ping "p"`, `message 1 "one two"`)
	ok("5.19 pings between", frame(binaryOp, "1")+frame(more, "2")+frame(ping, "p")+frame(more, "3")+frame(more, "4")+
		frame(ping, "q")+frame(pong, "r")+frame(fin|more, "5")+frame(fin|text, "a"), `ping "p"`, `ping "q"`, `pong "r"`, `message 2 "12345"`, gotA)
	ok("6.1 empty fragments", frame(text, "")+frame(more, "")+frame(fin|more, ""), `message 1 ""`)
	ok("6.1 empty around", frame(text, "")+frame(more, "a")+frame(fin|more, ""), gotA)
	ok("6.1 empty before", frame(text, "")+frame(fin|more, "a"), gotA)
	ok("one-byte fragments", frame(text, "a")+strings.Repeat(frame(more, "b"), 50)+frame(fin|more, "c"),
		fmt.Sprintf("message 1 %q", "a"+strings.Repeat("b", 50)+"c"))
	ok("message after message", frame(text, "")+frame(fin|more, "a")+frame(text, "b")+frame(fin|more, ""), gotA, gotB)
	bad("5.9 continuation first", 1002, frame(fin|more, "x")+frame(fin|text, "a"))
	bad("5.12 open continuation first", 1002, frame(more, "x")+frame(fin|text, "a"))
	bad("5.15 continuation after the end", 1002, frame(text, "a")+frame(fin|more, "")+frame(more, "x"), gotA)
	bad("5.18 text inside text", 1002, frame(text, "a")+frame(fin|text, "b"))
	bad("5.18 binary inside text", 1002, frame(text, "a")+frame(binaryOp, "b"))
	open("open message", frame(text, "a"))
	open("open message after a ping", frame(text, "a")+frame(ping, ""), `ping ""`)
	open("open empty message", frame(text, ""))
}

func textCases(ok okCase, bad badCase) {
	for name, s := range map[string]string{
		"6.2 greek": "Hello-µ@ßöäüàá-UTF-8!!", "6.5 kosme": "κόσμε", "6.9 1 byte": "\x00", "6.9 2 bytes": "\u0080", "6.9 3 bytes": "\u0800",
		"6.9 4 bytes": "\U00010000", "6.7 top of 1": "\x7f", "6.7 top of 2": "\u07ff", "6.7 top of 3": "\uffff", "6.7 top": "\U0010ffff",
		"6.11 before surrogates": "\ud7ff", "6.11 after surrogates": "\ue000", "6.11 replacement": "\ufffd", "6.22 noncharacters": "\ufffe\uffff\U0001fffe",
	} {
		ok(name, frame(fin|text, s), fmt.Sprintf("message 1 %q", s))
		var bytewise strings.Builder
		bytewise.WriteString(frame(text, ""))
		for i := range len(s) {
			bytewise.WriteString(frame(more, s[i:i+1]) + frame(ping, ""))
		}
		bytewise.WriteString(frame(fin|more, ""))
		ok(name+" in fragments", bytewise.String(), append(slices.Repeat([]string{`ping ""`}, len(s)), fmt.Sprintf("message 1 %q", s))...)
	}
	for name, s := range map[string]string{
		"6.3 surrogate in text": "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", "6.4 too high": "κόσμε\xf4\x90\x80\x80edited",
		"6.6 1 of 2": "\xce", "6.6 1 of 3": "\xe1", "6.6 2 of 3": "a\xe1\xbd", "6.8 5 bytes": "\xf8\x88\x80\x80\x80", "6.8 6 bytes": "\xfc\x84\x80\x80\x80\x80",
		"6.10 over the top": "\xf7\xbf\xbf\xbf", "6.12 lone continuation": "\x80", "6.12 continuations": "\x80\xbf\x80\xbf", "6.13 lone starts": "\xc0 \xc1 \xf5 ",
		"6.14 3 of 4": "\xf0\x80\x80", "6.14 3 good of 4": "\xf0\x9f\x98", "6.16 fe": "\xfe", "6.16 ff": "a\xff", "6.17 overlong slash": "\xc0\xaf", "6.17 overlong 3": "\xe0\x80\xaf",
		"6.17 overlong 4": "\xf0\x80\x80\xaf", "6.18 highest overlong 2": "\xc1\xbf", "6.18 highest overlong 3": "\xe0\x9f\xbf", "6.19 overlong NUL": "\xc0\x80",
		"6.20 high surrogate": "\xed\xa0\x80", "6.20 low surrogate": "\xed\xbf\xbf", "6.21 surrogate pair": "\xed\xa0\x80\xed\xb0\x80",
	} {
		bad(name, 1007, frame(fin|text, "a")+frame(fin|text, s)+frame(fin|text, "b"), gotA)
		bad(name+" in fragments", 1007, frame(text, s[:1])+frame(more, s[1:])+frame(fin|more, ""))
		ok(name+" as binary", frame(fin|binaryOp, s), fmt.Sprintf("message 2 %q", s))
	}
	ok("text state is per message", frame(fin|text, "é")+frame(text, "\xc3")+frame(fin|more, "\xa9")+frame(fin|text, "é"),
		`message 1 "é"`, `message 1 "é"`, `message 1 "é"`)
}

func closeCases(ok okCase, bad badCase) {
	ok("7.1 text, then close", frame(fin|text, "a")+closeFrame(1000, ""), gotA, `close 1000 ""`)
	ok("7.1 frames after close", closeFrame(1000, "")+frame(fin|text, "b")+frame(ping, "")+closeFrame(1000, "")+"\xff\xff\xff", `close 1000 ""`)
	ok("7.1 close inside a message", frame(text, "a")+closeFrame(1000, "bye")+frame(fin|more, "b"), `close 1000 "bye"`)
	ok("7.3 empty close", frame(closeOp, ""), `close 1005 ""`)
	bad("7.3 half a code", 1002, frame(closeOp, "x"))
	ok("7.3 code and reason", closeFrame(1000, "Hello World!"), `close 1000 "Hello World!"`)
	ok("7.3 longest reason", closeFrame(1000, strings.Repeat("*", 123)), fmt.Sprintf("close 1000 %q", strings.Repeat("*", 123)))
	bad("7.3 too long a reason", 1002, closeFrame(1000, strings.Repeat("*", 124)))
	bad("7.5 reason is no UTF-8", 1007, closeFrame(1000, "\xce\xba\xed\xa0\x80"))
	bad("7.5 reason ends in a rune", 1007, closeFrame(1000, "a\xe2\x82"))
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		ok(fmt.Sprintf("7.7 code %d", code), closeFrame(code, ""), fmt.Sprintf(`close %d ""`, code))
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		bad(fmt.Sprintf("7.9 code %d", code), 1002, closeFrame(code, "reason"))
	}
}

// bytesConn is a connection whose peer has sent data and reads nothing.
type bytesConn struct {
	net.Conn
	data *strings.Reader
}

func (c bytesConn) Read(p []byte) (int, error)       { return c.data.Read(p) }
func (c bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) SetDeadline(time.Time) error      { return nil }
func (c bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }

// hijacked lets gorilla upgrade a connection that is none.
type hijacked struct {
	http.ResponseWriter
	conn bytesConn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// gorillaReads returns what gorilla/websocket's server side makes of data, and the
// close code it ends with; 0 for the end of data.
func gorillaReads(t *testing.T, data string, limit int) ([]string, int) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	req.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	var upgrader websocket.Upgrader
	conn, err := upgrader.Upgrade(hijacked{httptest.NewRecorder(), bytesConn{data: strings.NewReader(data)}}, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{}
	conn.SetReadLimit(int64(limit))
	conn.SetPingHandler(func(s string) error { return rec.onPing([]byte(s)) })
	conn.SetPongHandler(func(s string) error { return rec.onPong([]byte(s)) })
	conn.SetCloseHandler(func(code int, s string) error { return rec.onClose(uint16(code), s) })
	for {
		op, payload, err := conn.ReadMessage()
		if err == nil {
			err = rec.onMessage(opcode(op), payload)
		}
		if err != nil {
			return rec.events, gorillaCode(err)
		}
	}
}

func gorillaCode(err error) int {
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return statusTooBig
	case errors.As(err, &closed), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return 0
	default:
		return statusProtocolError
	}
}

// requireLikeGorilla compares our reader with gorilla's. They differ on purpose:
//   - gorilla checks the UTF-8 of close reasons only, and calls that 1002;
//   - it takes lengths that are not minimal, and calls the highest bit too big;
//   - it takes a close frame with half a code for one without;
//   - it refuses close code 1014, which the registry has since;
//   - it wants the mask before it calls a frame too big.
//
// Where ours is the stricter, all that ours gave before must be what gorilla gave.
func requireLikeGorilla(t *testing.T, data string, limit int) {
	t.Helper()
	r, rec := newFrameReader(limit), &recorder{}
	code, stricter := 0, false
	if fault, ok := errors.AsType[*closeError](r.Feed([]byte(data), rec)); ok {
		code = int(fault.code)
		stricter = code == statusInvalidPayload || code == statusTooBig ||
			strings.Contains(fault.reason, "minimal") || strings.Contains(fault.reason, "highest bit") || strings.Contains(fault.reason, "half a code")
	}
	events, theirs := gorillaReads(t, data, limit)
	ours := rec.events
	switch {
	case stricter && code == statusTooBig:
		if theirs != statusTooBig && theirs != 0 || !slices.Equal(ours, events) {
			t.Fatalf("%q: we end too big after %q, gorilla with %d after %q", data, ours, theirs, events)
		}
	case stricter:
		if len(events) < len(ours) || !slices.Equal(ours, events[:len(ours)]) {
			t.Fatalf("%q: got %q, want the beginning of gorilla's %q", data, ours, events)
		}
	case len(ours) > 0 && strings.HasPrefix(ours[len(ours)-1], "close 1014 "):
		if !slices.Equal(ours[:len(ours)-1], events) || theirs != statusProtocolError {
			t.Fatalf("%q: got %q, want gorilla's %q and a close", data, ours, events)
		}
	case code != theirs || !slices.Equal(ours, events):
		t.Fatalf("%q: got code %d after %q, want gorilla's %d after %q", data, code, ours, theirs, events)
	}
}

func TestFrameReaderLikeGorilla(t *testing.T) {
	t.Parallel()
	for name, tc := range frameCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireLikeGorilla(t, tc.data, testLimit)
		})
	}
}

// FuzzFrameReader: any bytes, split anywhere, mean what gorilla's reader says.
func FuzzFrameReader(f *testing.F) {
	for _, tc := range frameCases() {
		if len(tc.data) < 1000 {
			f.Add([]byte(tc.data), uint64(len(tc.data)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		before := bytes.Clone(data)
		requireSplitInvariant(t, string(data), seed)
		requireLikeGorilla(t, string(data), 200)
		if !bytes.Equal(before, data) {
			t.Fatal("the test changed its input")
		}
	})
}
