package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
)

// greet reads a connection's first request and serves it, or hands it on. A panic costs
// this connection, not the process.
func (f *front) greet(raw net.Conn) {
	defer func() {
		if cause := recover(); cause != nil {
			f.gw.log.Error("panic", "part", "greeting", "panic", cause, "stack", string(debug.Stack()))
			_ = raw.Close()
		}
	}()
	s, a, early := f.handshake(raw)
	if s != nil {
		s.begin(a.caller, early)
	}
}

// handshake takes a connection to a session, if it asks for one in the usual way; early
// is what the peer has sent after its request. Else the connection has been handed on, or
// is closed.
func (f *front) handshake(raw net.Conn) (s *session, a *admission, early []byte) {
	defer f.greeted(raw)
	conn := raw
	if f.tls != nil {
		encrypted, err := f.encrypt(raw)
		if err != nil {
			f.gw.log.Debug("tls handshake", "remote", raw.RemoteAddr().String(), "err", err)
			_ = raw.Close()
			return nil, nil, nil
		}
		conn = encrypted
	}
	h := heads.Get().(*head) //nolint:forcetypeassert // the pool has nothing else
	defer h.done()
	if err := h.read(conn); !f.inTime(raw) || err != nil {
		_ = raw.Close() // gone, or too slow
		return nil, nil, nil
	}
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	r := h.request()
	if r != nil {
		r.RemoteAddr = raw.RemoteAddr().String()
		if f.tls != nil {
			r.TLS = &tls.ConnectionState{} // only asked whether it is there
		}
		var no *refusal
		if a, no = f.gw.judge(r); no == nil {
			return f.gw.open(conn, a), a, bytes.Clone(h.buf[h.size:h.n])
		}
	}
	f.hand(raw, conn, bytes.Clone(h.buf[:h.n]))
	return nil, nil, nil
}

// inTime says that a connection's request is there: its clock stops. It reports false if
// it was too late, or the front is stopped: then the connection is closed.
func (f *front) inTime(raw net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there := f.greeting[raw]
	if there {
		f.greeting[raw] = never // it counts until somebody else counts it
	}
	return there
}

// greeted takes a connection off the list of those that are being greeted.
func (f *front) greeted(raw net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.greeting, raw)
}

// encrypt speaks TLS's handshake.
func (f *front) encrypt(raw net.Conn) (*tls.Conn, error) {
	below := &recordConn{Conn: raw}
	defer below.leave()
	conn := tls.Server(below, f.tls)
	return conn, conn.Handshake() //nolint:noctx // the sweep closes the connection
}

// pace lets few handshakes use a processor at a time: from the hello of the client until
// the server's answer is written. A storm must not become a queue of thousands before
// the flushers.
func (f *front) pace() {
	before := f.tls.GetConfigForClient
	f.tls.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if conn, ok := hello.Conn.(*recordConn); ok {
			conn.enter(f.busy)
		}
		if before != nil {
			return before(hello)
		}
		return nil, nil //nolint:nilnil // the listener's own
	}
}

// A request that is served here has at most maxHead bytes; the HTTP server takes longer
// ones. Who says nothing holds usualHead.
const (
	usualHead = 1 << 10
	maxHead   = 4 << 10
)

// head is the first request of a connection as it comes.
type head struct {
	buf  []byte
	n    int // bytes that have come
	size int // of the request, once it is there
}

// heads are those of connections that are being greeted.
var heads = sync.Pool{New: func() any { return &head{buf: make([]byte, usualHead)} }} //nolint:gochecknoglobals // a pool

// done gives the head back, unless it has grown.
func (h *head) done() {
	if len(h.buf) == usualHead {
		heads.Put(h)
	}
}

// headReader reads the lines of a request that is there.
type headReader struct {
	from bytes.Reader
	text *bufio.Reader // reads from
}

// headReaders are those of who parses just now.
var headReaders = sync.Pool{New: func() any { return &headReader{text: bufio.NewReaderSize(nil, maxHead)} }} //nolint:gochecknoglobals // a pool

const (
	socketTarget = "GET /v1/ws"
	headEnd      = "\r\n\r\n"
)

// read reads until the request is there or is another one than for a WebSocket.
func (h *head) read(conn net.Conn) error {
	h.n, h.size = 0, 0
	for {
		n, err := conn.Read(h.buf[h.n:])
		from := max(0, h.n+1-len(headEnd))
		h.n += n
		if end := bytes.Index(h.buf[from:h.n], []byte(headEnd)); end >= 0 {
			h.size = from + end + len(headEnd)
			return nil
		}
		if h.n == maxHead || !h.asksForSocket() || hasBareLF(h.buf[:h.n]) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.n == len(h.buf) {
			h.buf = append(make([]byte, 0, maxHead), h.buf...)[:maxHead]
		}
	}
}

// asksForSocket reports whether what has come is the beginning of a request for one.
func (h *head) asksForSocket() bool {
	b := h.buf[:h.n]
	if len(b) <= len(socketTarget) {
		return strings.HasPrefix(socketTarget, string(b))
	}
	next := b[len(socketTarget)]
	return bytes.HasPrefix(b, []byte(socketTarget)) && (next == ' ' || next == '?')
}

// request parses what has come. It returns nil for everything that is not quite usual:
// the HTTP server then judges it.
func (h *head) request() *http.Request {
	if h.size == 0 || !h.asksForSocket() || hasBareLF(h.buf[:h.size]) || bytes.ContainsFunc(h.buf[:h.size], isControl) {
		return nil
	}
	r := headReaders.Get().(*headReader) //nolint:forcetypeassert // the pool has nothing else
	defer headReaders.Put(r)
	r.from.Reset(h.buf[:h.size])
	r.text.Reset(&r.from)
	lines := textproto.NewReader(r.text)
	first, err := lines.ReadLine()
	if err != nil {
		return nil
	}
	target, proto, _ := strings.Cut(strings.TrimPrefix(first, "GET "), " ")
	header, err := lines.ReadMIMEHeader()
	if err != nil || strings.Contains(target, "\r") || proto != "HTTP/1.1" || len(header["Host"]) != 1 || header["Host"][0] == "" ||
		header["Content-Length"] != nil || header["Transfer-Encoding"] != nil || header["Expect"] != nil {
		return nil
	}
	for name := range header {
		if strings.Contains(name, " ") { // also before its colon
			return nil
		}
	}
	path, query, _ := strings.Cut(target, "?")
	return &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}, RequestURI: target,
		Proto: proto, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header(header), Host: header["Host"][0],
	}
}

// hasBareLF reports whether a line ends without a carriage return, as the HTTP server
// lets it: such a request may end before headEnd.
func hasBareLF(b []byte) bool {
	return bytes.Count(b, []byte{'\n'}) != bytes.Count(b, []byte("\r\n"))
}

// isControl reports whether a rune is not usual in a header.
func isControl(r rune) bool { return r < ' ' && r != '\r' && r != '\n' || r == 0x7F }
