package gateway

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/metrics"
)

// edge is a gateway behind a real HTTP server on loopback.
type edge struct {
	tick    <-chan time.Time // real
	gw      *Gateway
	bus     *bus
	addr    string
	metrics *metrics.Metrics
	logs    *logText
}

// realTick is how often something is looked at that the kernel decides.
const realTick = 10 * time.Millisecond

// onEdge runs a test with an edge, in a bubble whose time stands still: it would pass
// when everybody waits for it, and sockets wait for the kernel. So nothing is too late,
// however slow the machine is. The test closes what it has opened.
func onEdge(t *testing.T, withTLS bool, change func(*Config), test func(t *testing.T, e *edge)) {
	t.Helper()
	var certificates []tls.Certificate
	if withTLS {
		certificates = testCertificates()
	}
	tick := time.NewTicker(realTick)
	defer tick.Stop()
	synctest.Test(t, func(t *testing.T) { test(t, newEdge(t, certificates, change, tick.C)) })
}

// newEdge has TLS if there are certificates.
func newEdge(t *testing.T, certificates []tls.Certificate, change func(*Config), tick <-chan time.Time) *edge {
	t.Helper()
	e := &edge{tick: tick, bus: newBus(), metrics: metrics.New(), logs: &logText{}}
	cfg := newConfig(t, e.bus, e.metrics, slog.New(slog.NewJSONHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if change != nil {
		change(&cfg)
	}
	gw, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var config *tls.Config
	if certificates != nil {
		config = &tls.Config{Certificates: certificates}
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: gw.Handler(), ReadHeaderTimeout: handshakeTimeout}
	var served sync.WaitGroup
	served.Go(func() { _ = gw.Serve(lis, config, server) })
	t.Cleanup(func() {
		gw.Drain(t.Context(), 0)
		cfg.Hub.Close()
		_ = server.Close()
		served.Wait()
	})
	e.gw, e.addr = gw, lis.Addr().String()
	return e
}

// request is a WebSocket handshake; lines are changes of it: a line with a name that
// it has replaces that one, "-Name" takes one out, others are added. A line without a
// colon is the request line.
func request(lines ...string) string {
	first := "GET /v1/ws HTTP/1.1"
	header := []string{
		"Host: node.example", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
	}
	var added []string
	for _, line := range lines {
		name, _, isHeader := strings.Cut(line, ":")
		if (!isHeader || strings.Contains(name, " ")) && !strings.HasPrefix(line, "-") {
			first = line
			continue
		}
		known := false
		for i := range header {
			if strings.HasPrefix(header[i], strings.TrimPrefix(name, "-")+":") {
				header[i], known = line, true
			}
		}
		if !known {
			added = append(added, line)
		}
	}
	var b strings.Builder
	b.WriteString(first + "\r\n")
	for _, line := range append(header, added...) {
		if !strings.HasPrefix(line, "-") {
			b.WriteString(line + "\r\n")
		}
	}
	return b.String() + "\r\n"
}

// answer is what came back: of a refusal also its body.
type answer struct {
	*http.Response
	body string
	conn net.Conn
	buf  *bufio.Reader
}

func (e *edge) ask(t *testing.T, conn net.Conn, request string) answer {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(realPatience))
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	a := answer{conn: conn, buf: bufio.NewReader(conn)}
	var err error
	if a.Response, err = http.ReadResponse(a.buf, &http.Request{Method: strings.Fields(request)[0]}); err != nil { //nolint:bodyclose // it is, below
		t.Fatal(err)
	}
	if a.StatusCode != http.StatusSwitchingProtocols {
		data, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		a.body = string(data)
	}
	_ = a.Body.Close()
	return a
}

func (e *edge) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// connect opens a socket with a client of WebSockets.
func (e *edge) connect(t *testing.T, dialer websocket.Dialer, scheme, query string) *peer {
	t.Helper()
	ws, answer, err := dialer.Dial(scheme+"://"+e.addr+"/v1/ws"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	return &peer{t: t, ws: ws, real: true}
}

// next reads one short text frame of the server.
func (a *answer) next(t *testing.T) string {
	t.Helper()
	header := make([]byte, 2)
	if _, err := io.ReadFull(a.buf, header); err != nil {
		t.Fatal(err)
	}
	size := int(header[1])
	if size == 126 {
		if _, err := io.ReadFull(a.buf, header); err != nil {
			t.Fatal(err)
		}
		size = int(header[0])<<8 | int(header[1])
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(a.buf, data); err != nil {
		t.Fatal(err)
	}
	return shown(data)
}

const (
	plain      = http.StatusSwitchingProtocols
	badRequest = http.StatusBadRequest
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change []string
		status int
		says   []string // in the body, or a header line
	}{
		"plain":                 {nil, plain, []string{"Sec-Websocket-Accept: "}},
		"other case":            {[]string{"Connection: UPGRADE", "Upgrade: websocket"}, plain, nil},
		"own subprotocol":       {[]string{"Sec-WebSocket-Protocol: roomcast.v1.json"}, plain, []string{"Sec-Websocket-Protocol: roomcast.v1.json"}},
		"one of several":        {[]string{"Sec-WebSocket-Protocol: x, roomcast.v1.json"}, plain, []string{"Sec-Websocket-Protocol: roomcast.v1.json"}},
		"one of several lines":  {[]string{"Sec-WebSocket-Protocol: x", "sec-websocket-protocol: roomcast.v1.json"}, plain, []string{"Sec-Websocket-Protocol: roomcast.v1.json"}},
		"compression is no":     {[]string{"Sec-WebSocket-Extensions: permessage-deflate"}, plain, []string{"-Sec-Websocket-Extensions"}},
		"HTTP/1.2":              {[]string{"GET /v1/ws HTTP/1.2"}, plain, nil},
		"absolute form":         {[]string{"GET http://other.example/v1/ws HTTP/1.1"}, plain, nil},
		"another path":          {[]string{"GET /v1/wss HTTP/1.1"}, http.StatusNotFound, nil},
		"POST":                  {[]string{"POST /v1/ws HTTP/1.1"}, http.StatusMethodNotAllowed, []string{"Allow: GET"}},
		"HTTP/1.0":              {[]string{"GET /v1/ws HTTP/1.0"}, badRequest, []string{"BAD_HANDSHAKE", "HTTP/1.1"}},
		"no upgrade":            {[]string{"-Upgrade", "-Connection"}, http.StatusUpgradeRequired, []string{"Upgrade: websocket"}},
		"upgrade to h2c":        {[]string{"Upgrade: h2c"}, http.StatusUpgradeRequired, []string{"Upgrade: websocket"}},
		"connection close":      {[]string{"Connection: close"}, http.StatusUpgradeRequired, []string{"BAD_HANDSHAKE"}},
		"version 8":             {[]string{"Sec-WebSocket-Version: 8"}, http.StatusUpgradeRequired, []string{"Sec-Websocket-Version: 13"}},
		"no version":            {[]string{"-Sec-WebSocket-Version"}, http.StatusUpgradeRequired, []string{"Sec-Websocket-Version: 13"}},
		"no key":                {[]string{"-Sec-WebSocket-Key"}, badRequest, []string{"Sec-WebSocket-Key"}},
		"short key":             {[]string{"Sec-WebSocket-Key: MDEyMzQ1Njc4OQ=="}, badRequest, []string{"16 bytes"}},
		"key is no base64":      {[]string{"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZ!!!"}, badRequest, []string{"base64"}},
		"two keys":              {[]string{"Sec-Websocket-key: MDEyMzQ1Njc4OWFiY2RlZg=="}, badRequest, []string{"once"}},
		"body":                  {[]string{"Content-Length: 3"}, badRequest, []string{"no body"}},
		"chunked body":          {[]string{"Transfer-Encoding: chunked"}, badRequest, []string{"no body"}},
		"both lengths":          {[]string{"Content-Length: 3", "Transfer-Encoding: chunked"}, badRequest, nil},
		"space before a colon":  {[]string{"X: y\r\nContent-Length : 3"}, badRequest, nil},
		"space in a name":       {[]string{"X: y\r\nY Z: y"}, badRequest, nil},
		"tab in the target":     {[]string{"GET /v1/ws?\t HTTP/1.1"}, badRequest, nil},
		"return in the target":  {[]string{"GET /v1/ws?\r HTTP/1.1"}, badRequest, nil},
		"unknown expectation":   {[]string{"Expect: tea"}, http.StatusExpectationFailed, nil},
		"tab in a header":       {[]string{"X:\ty"}, plain, nil},
		"two hosts":             {[]string{"host: b.example"}, badRequest, nil},
		"no host":               {[]string{"-Host"}, badRequest, nil},
		"unknown subprotocol":   {[]string{"Sec-WebSocket-Protocol: mqtt"}, badRequest, []string{"SUBPROTOCOL_NOT_SERVED", "roomcast.v1.json"}},
		"protobuf subprotocol":  {[]string{"Sec-WebSocket-Protocol: mqtt, roomcast.v1.protobuf, roomcast.v1.json"}, http.StatusSwitchingProtocols, []string{"Sec-WebSocket-Protocol: roomcast.v1.protobuf"}},
		"broken query":          {[]string{"GET /v1/ws?room=%zz HTTP/1.1"}, badRequest, []string{"query"}},
		"100 rooms":             {[]string{"GET /v1/ws?" + strings.Repeat("room=a&", 100) + " HTTP/1.1"}, plain, nil},
		"101 rooms":             {[]string{"GET /v1/ws?" + strings.Repeat("room=a&", 101) + " HTTP/1.1"}, badRequest, []string{"TOO_MANY_ROOMS", "100"}},
		"another origin":        {[]string{"Origin: https://evil.example"}, http.StatusForbidden, []string{"ORIGIN_NOT_ALLOWED", "--allowed-origins"}},
		"two origins":           {[]string{"Origin: https://node.example", "origin: https://node.example"}, http.StatusForbidden, nil},
		"bad token":             {[]string{"Authorization: Bearer x"}, http.StatusUnauthorized, []string{"TOKEN_INVALID", "Www-Authenticate: Bearer"}},
		"empty token":           {[]string{"Authorization: Bearer "}, http.StatusUnauthorized, []string{"TOKEN_MISSING"}},
		"password":              {[]string{"Authorization: Basic YTpi"}, http.StatusUnauthorized, []string{"Bearer TOKEN"}},
		"two tokens":            {[]string{"Authorization: Bearer x", "authorization: Bearer y"}, http.StatusUnauthorized, nil},
		"token in query":        {[]string{"GET /v1/ws?access_token=x HTTP/1.1"}, plain, nil}, // not looked at
		"pipelined bytes":       {[]string{"X: y\r\n\r\n" + frame(closeOp, "")}, plain, nil},
		"a page of the host":    {[]string{"Origin: http://NODE.example:80"}, plain, nil},
		"cookie without origin": {[]string{"Cookie: a=b"}, plain, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEdge(t, false, nil, func(t *testing.T, e *edge) {
				t.Helper()
				a := e.ask(t, e.dial(t), request(test.change...))
				if a.StatusCode != test.status {
					t.Fatalf("status %d, want %d: %s", a.StatusCode, test.status, a.body)
				}
				a.check(t, test.says)
			})
		})
	}
}

// check looks for texts in the body, or header lines; with a - before it for a header
// that must not be there.
func (a *answer) check(t *testing.T, says []string) {
	t.Helper()
	for _, want := range says {
		key, value, isHeader := strings.Cut(want, ": ")
		switch {
		case strings.HasPrefix(want, "-"):
			if a.Header.Get(want[1:]) != "" {
				t.Errorf("has the header %s", want[1:])
			}
		case isHeader:
			if got := a.Header.Get(key); !strings.HasPrefix(got, value) || got == "" {
				t.Errorf("%s is %q, want %q", key, got, value)
			}
		case !strings.Contains(a.body, want):
			t.Errorf("body %q has no %q", a.body, want)
		}
	}
}

func TestRejectsAreCounted(t *testing.T) {
	t.Parallel()
	onEdge(t, false, nil, func(t *testing.T, e *edge) {
		t.Helper()
		_ = e.ask(t, e.dial(t), request("Origin: https://evil.example"))
		_ = e.ask(t, e.dial(t), request("HEAD /v1/ws HTTP/1.1"))
		for _, reason := range []string{"ORIGIN_NOT_ALLOWED", "BAD_HANDSHAKE"} {
			if n := testutil.ToFloat64(e.metrics.Rejects.WithLabelValues(reason)); n != 1 {
				t.Errorf("%v rejects by %s, want 1", n, reason)
			}
		}
	})
}

func TestTokenPlaces(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		inQuery bool
		change  []string
		status  int
		welcome string
	}{
		"header":              {false, []string{"Authorization: Bearer ANN"}, plain, "welcome ann"},
		"other case":          {false, []string{"authorization: bearer  ANN "}, plain, "welcome ann"},
		"query":               {true, []string{"GET /v1/ws?access_token=ANN HTTP/1.1"}, plain, "welcome ann"},
		"header before it":    {true, []string{"GET /v1/ws?access_token=BOB HTTP/1.1", "Authorization: Bearer ANN"}, plain, "welcome ann"},
		"query without leave": {false, []string{"GET /v1/ws?access_token=ANN HTTP/1.1"}, plain, "welcome guest"},
		"bad query":           {true, []string{"GET /v1/ws?access_token=x HTTP/1.1"}, http.StatusUnauthorized, ""},
		"bad header":          {true, []string{"GET /v1/ws?access_token=ANN HTTP/1.1", "Authorization: Bearer x"}, http.StatusUnauthorized, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := func(c *Config) {
				guests(c, nil)
				c.TokenInQuery = test.inQuery
			}
			onEdge(t, false, change, func(t *testing.T, e *edge) {
				t.Helper()
				ann, bob := token(t, "ann", time.Hour), token(t, "bob", time.Hour)
				tokens := strings.NewReplacer("ANN", ann, "BOB", bob)
				a := e.ask(t, e.dial(t), tokens.Replace(request(test.change...)))
				if a.StatusCode != test.status {
					t.Fatalf("status %d, want %d: %s", a.StatusCode, test.status, a.body)
				}
				if test.welcome != "" {
					if got := a.next(t); got != test.welcome {
						t.Errorf("got %s, want %s", got, test.welcome)
					}
				}
				if text := e.logs.String(); strings.Contains(text, ann) || strings.Contains(text, bob) {
					t.Error("a token is in the log")
				}
			})
		})
	}
}

// TestOverTLS has a page of another scheme, and a whole session.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	onEdge(t, true, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		dial := func() net.Conn {
			return tls.Client(e.dial(t), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		}
		if a := e.ask(t, dial(), request("Origin: http://node.example")); a.StatusCode != http.StatusForbidden {
			t.Errorf("a page without TLS got %d, want 403", a.StatusCode)
		}
		a := e.ask(t, dial(), request("Origin: https://node.example"))
		if a.StatusCode != plain {
			t.Fatalf("status %d: %s", a.StatusCode, a.body)
		}
		if got := a.next(t); got != "welcome guest" {
			t.Errorf("got %s", got)
		}
		if _, err := a.conn.Write([]byte(frame(fin|text, `{"id":1,"ping":{}}`) + closeFrame(1000, ""))); err != nil {
			t.Fatal(err)
		}
		if got := a.next(t); got != `{"id":1,"pong":{}}` {
			t.Errorf("got %s", got)
		}
		rest, err := io.ReadAll(a.buf)
		if want := serverClose(1000, "CLIENT_CLOSED"); err != nil || string(rest) != want {
			t.Errorf("got %q, %v, want %q and a clean end", rest, err, want)
		}
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	ready := false
	onEdge(t, false, func(c *Config) { c.Ready = func() bool { return ready } }, func(t *testing.T, e *edge) {
		t.Helper()
		check := func(status int, body string) {
			t.Helper()
			w := httptest.NewRecorder()
			e.gw.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health", nil))
			if w.Code != status || w.Body.String() != body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, status, body)
			}
		}
		check(http.StatusServiceUnavailable, "not ready\n")
		ready = true
		check(http.StatusOK, "ok\n")
		e.gw.Drain(t.Context(), 0)
		check(http.StatusServiceUnavailable, "draining\n")
		if a := e.ask(t, e.dial(t), request()); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
			t.Errorf("a socket while draining got %d, want 503 with Retry-After", a.StatusCode)
		}
	})
}

// TestBodyIsNotAwaited: a body that never comes holds nothing.
func TestBodyIsNotAwaited(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"socket": "/v1/ws", "health": "/health", "nothing": "/x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(w *world) {
				t := w.t
				conn, err := w.listener.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				took := since(t)
				if _, err := conn.Write([]byte(request("POST "+path+" HTTP/1.1", "Content-Length: 3"))); err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(conn)
				if err != nil || !strings.HasPrefix(string(data), "HTTP/1.1 40") {
					t.Errorf("got %q, %v", data, err)
				}
				took(bodyTimeout)
				_ = conn.Close()
			})
		})
	}
}
