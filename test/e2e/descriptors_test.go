package e2e

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// webSocket is a connection after its handshake, or after its refusal.
type webSocket struct {
	net.Conn
	in     *bufio.Reader
	answer *http.Response
}

// open asks for a WebSocket by hand.
func (s *server) open(t testing.TB, query string) webSocket {
	t.Helper()
	conn, err := net.Dial("tcp", s.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience + *exhausted))
	if _, err := conn.Write([]byte("GET /v1/ws" + query + " HTTP/1.1\r\nHost: " + s.HTTP + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	w := webSocket{Conn: conn, in: bufio.NewReader(conn)}
	if w.answer, err = http.ReadResponse(w.in, nil); err != nil { //nolint:bodyclose // its body is the connection
		t.Fatal(err)
	}
	return w
}

// shows reads until a text has come.
func (w *webSocket) shows(t testing.TB, text string) {
	t.Helper()
	var seen strings.Builder
	for !strings.Contains(seen.String(), text) {
		b, err := w.in.ReadByte()
		if err != nil {
			t.Fatalf("%v after %q, want %q", err, seen.String(), text)
		}
		seen.WriteByte(b)
	}
}

// limited starts a node that may open few files.
func limited(t testing.TB, files string, args ...string) *server {
	t.Helper()
	return serveBy(t, func(t testing.TB, args ...string) *process {
		t.Helper()
		shell := append([]string{"-c", `ulimit -n ` + files + `; exec "$0" "$@"`, built.roomcast}, args...)
		return startCommand(t, nil, "sh", shell...)
	}, args...)
}

var exhausted = flag.Duration("exhausted", 0, "how long TestDescriptorsRunOut leaves a node without free places")

// TestDescriptorsRunOut: sockets and other connections, however many call, leave the node
// the descriptors that it needs to store messages: a log that finds none for a second stores
// nothing more. Sockets stay and receive, and new ones are told to come later. Once there
// are places again all is well.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	config := write(t, "c.yaml", "namespaces:\n  eph:\n    history: {size: 0}\n")
	s := limited(t, "300", "--dev", "--ping-interval", "5m", "--data-dir", t.TempDir(), "--config", config)
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	publisher := roomcastv1.NewPublishServiceClient(conn)
	first := s.open(t, "?room=hello&room=eph:hello")
	send := func(room, text string) error {
		request := &roomcastv1.PublishRequest{Room: room, Payload: &roomcastv1.PublishRequest_Text{Text: text}}
		_, err := publisher.Publish(bounded(t), request)
		return err
	}
	publish := func(room, text string) {
		t.Helper()
		if err := send(room, text); err != nil {
			t.Fatal(err)
		}
		first.shows(t, text)
	}
	first.shows(t, `"eph:hello"`)

	others := s.fill(t)
	if n := len(others); n < 100 || n > 200 {
		t.Errorf("%d sockets were let in with 300 descriptors, want all but those of the node", n)
	}
	publish("hello", "with as many sockets as there may be")
	s.callSilently(t)
	publish("hello", "beside a storm of those who are refused")

	var idle []net.Conn
	for _, addr := range []string{s.GRPC, s.Admin} {
		for range 100 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			idle = append(idle, c)
		}
	}
	s.callSilently(t)
	for range 10 {
		s.wantRefused(t)
	}
	s.whileExhausted(t, func(second int) {
		publish("eph:hello", fmt.Sprintf("beside connections of all kinds %d.", second))
		publish("hello", fmt.Sprintf("stored beside them %d.", second))
	})
	if log := s.errors(); strings.Contains(log, "no descriptors are left") || !strings.Contains(log, "others are closed") {
		t.Errorf("the connections have taken the node's own descriptors: %s", log)
	}

	for _, c := range idle {
		_ = c.Close()
	}
	for _, w := range others {
		_ = w.Close()
	}
	nodetest.Eventually(t, patience, "a socket is let in again", func() bool {
		w := s.open(t, "")
		defer func() { _ = w.Close() }()
		return w.answer.StatusCode == http.StatusSwitchingProtocols
	})
	publish("hello", "when there are some again")
	must(t, "pub", "--grpc-addr", s.GRPC, "hello", "over another connection")
	first.shows(t, "over another connection")
	_ = first.Close() // else the drain waits for it
	s.stop()
}

// whileExhausted does something for three seconds, and once a second for as long as the flag
// says; new sockets are refused meanwhile.
func (s *server) whileExhausted(t testing.TB, do func(second int)) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	until := time.Now().Add(*exhausted)
	for second := 0; second <= 3 || time.Now().Before(until); second++ {
		if second > 0 {
			<-tick.C
		}
		s.wantRefused(t)
		do(second)
	}
}

// callSilently makes many connections that ask for nothing. They must not keep others
// from their answer.
func (s *server) callSilently(t testing.TB) {
	t.Helper()
	for range 200 {
		conn, err := net.Dial("tcp", s.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	s.wantRefused(t)
}

// fill opens sockets until one is refused.
func (s *server) fill(t testing.TB) (open []webSocket) {
	t.Helper()
	for {
		w := s.open(t, "")
		if w.answer.StatusCode != http.StatusSwitchingProtocols {
			w.wantRefusal(t)
			return open
		}
		if open = append(open, w); len(open) > 300 {
			t.Fatal("no socket is refused")
		}
	}
}

func (s *server) wantRefused(t testing.TB) {
	t.Helper()
	w := s.open(t, "")
	w.wantRefusal(t)
	_ = w.Close()
}

func (w *webSocket) wantRefusal(t testing.TB) {
	t.Helper()
	if w.answer.StatusCode != http.StatusServiceUnavailable || w.answer.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, header %v, want 503 with Retry-After", w.answer.StatusCode, w.answer.Header)
	}
	w.shows(t, "OVERLOADED retry_ms=")
}
