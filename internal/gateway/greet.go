package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/roomcast/roomcast/internal/room"
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
			f.endPlain(raw, err)
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

// endPlain closes a connection without TLS, and tells who speaks HTTP what is wrong, in
// the HTTP server's words.
func (f *front) endPlain(raw net.Conn, err error) {
	fault, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || !beginsRequest(string(fault.RecordHeader[:])) ||
		!farewell(raw, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") {
		_ = raw.Close()
		return
	}
	f.gw.cfg.Metrics.Rejects.WithLabelValues(string(room.ReasonHandshake)).Inc()
	f.linger(raw)
}

// beginsRequest reports whether what stands in the place of a TLS record's header is a
// request of HTTP.
func beginsRequest(header string) bool {
	for _, method := range []string{"GET /", "HEAD /", "POST /", "PUT /", "OPTIONS /"} {
		if strings.HasPrefix(method, header) {
			return true
		}
	}
	return false
}

// errWaited ends a handshake that would come too late.
var errWaited = errors.New("too many handshakes wait for a processor")

// pace lets few handshakes use a processor at a time: from the hello of the client until
// the server's answer is written. A storm must not become a queue of thousands before
// the flushers, nor one of clients who have given up when it is their turn: who has waited
// for half of its time is not served.
func (f *front) pace() {
	before := f.tls.GetConfigForClient
	f.tls.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if conn, ok := hello.Conn.(*recordConn); ok {
			by := f.gw.now().add(handshakeTimeout / 2)
			conn.enter(f.hellos)
			if f.gw.now() >= by {
				f.gw.countOverload()
				return nil, errWaited
			}
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

const (
	socketTarget = "GET /v1/ws"
	lineEnd      = "\r\n"
	headEnd      = lineEnd + lineEnd
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
	if h.size == 0 || !h.asksForSocket() {
		return nil
	}
	first, lines, _ := strings.Cut(string(h.buf[:h.size-len(lineEnd)]), lineEnd)
	target, proto, _ := strings.Cut(strings.TrimPrefix(first, "GET "), " ")
	header := parseHeader(lines)
	if hasControl(target) || proto != "HTTP/1.1" || len(header["Host"]) != 1 || header["Host"][0] == "" ||
		header["Content-Length"] != nil || header["Transfer-Encoding"] != nil || header["Expect"] != nil {
		return nil
	}
	path, query, _ := strings.Cut(target, "?")
	return &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}, RequestURI: target,
		Proto: proto, ProtoMajor: 1, ProtoMinor: 1, Header: header, Host: header["Host"][0],
	}
}

// parseHeader reads lines of a usual header; nil if one of them is not.
func parseHeader(lines string) http.Header {
	n := strings.Count(lines, lineEnd)
	header, values := make(http.Header, n), make([]string, n)
	for i := range values {
		var line string
		line, lines, _ = strings.Cut(lines, lineEnd)
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" || strings.ContainsFunc(name, isUnusual) || hasControl(value) {
			return nil
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		values[i] = textproto.TrimString(value)
		if before := header[key]; before != nil {
			header[key] = append(before, values[i])
		} else {
			header[key] = values[i : i+1 : i+1]
		}
	}
	return header
}

// isUnusual reports whether a rune is none of a usual header's name.
func isUnusual(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
}

// hasBareLF reports whether a line ends without a carriage return, as the HTTP server
// lets it: such a request may end before headEnd.
func hasBareLF(b []byte) bool {
	return bytes.Count(b, []byte{'\n'}) != bytes.Count(b, []byte(lineEnd))
}

// hasControl reports whether a part of a line has a byte that is not usual there.
func hasControl(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7F {
			return true
		}
	}
	return false
}
