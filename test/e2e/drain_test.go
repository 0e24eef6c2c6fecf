package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// TestDrain stops a node (SIGTERM) that has a `sub` and a socket which stays to the
// end, and starts it again: sockets told, 1012 for the one that stays, exit code 0, and
// sub goes on without a loss.
func TestDrain(t *testing.T) {
	t.Parallel()
	args := []string{"--dev", "--data-dir", t.TempDir(), "--drain-window", "3s"}
	s := serveHere(t, args...)
	sub := s.subscribe(t, "--count", "2", "hello")
	socket := s.socket(t)
	must(t, "pub", "--grpc-addr", s.GRPC, "hello", "one")
	nodetest.Eventually(t, patience, "sub has it", func() bool { return sub.output() == "one\n" })

	s.signal(syscall.SIGTERM)
	frames := readUntil(t, socket, `"reconnect"`)
	var told struct {
		Reconnect struct {
			WithinMs int    `json:"withinMs"`
			Reason   string `json:"reason"`
		} `json:"reconnect"`
	}
	if err := json.Unmarshal([]byte(frames[len(frames)-1]), &told); err != nil || told.Reconnect.Reason != "DRAINING" ||
		told.Reconnect.WithinMs <= 0 || told.Reconnect.WithinMs > 3000 {
		t.Errorf("told %+v, %v; want DRAINING within what is left of 3000 ms", told, err)
	}
	sub.says("DRAINING")
	checkClosed(t, socket, websocket.CloseServiceRestart, "DRAINING")
	if code := s.wait(patience); code != 0 {
		t.Errorf("exit code %d after a drain, want 0", code)
	}
	if _, err := os.Stat(s.readyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ready file is still there: %v", err)
	}

	s = s.again(t, args...)
	must(t, "pub", "--grpc-addr", s.GRPC, "hello", "two")
	checkOutput(t, sub, []byte("one\ntwo\n"))
}

// While a node drains it lives, and is not ready. It ends with its last socket.
func TestWhileDraining(t *testing.T) {
	t.Parallel()
	s := serve(t, "--dev", "--data-dir", t.TempDir(), "--drain-window", "10m")
	socket := s.socket(t)
	s.signal(syscall.SIGTERM)
	readUntil(t, socket, `"reconnect"`)
	checkHTTP(t, "http://"+s.Admin+"/readyz", http.StatusServiceUnavailable, "draining\n")
	checkHTTP(t, "http://"+s.HTTP+"/health", http.StatusServiceUnavailable, "draining\n")
	checkHTTP(t, "http://"+s.Admin+"/healthz", http.StatusOK, "ok\n")
	checkNoSocket(t, s)
	_ = socket.Close()
	if code := s.wait(patience); code != 0 {
		t.Errorf("exit code %d after a drain, want 0", code)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	const window = 10 * time.Minute
	s := serve(t, "--dev", "--data-dir", t.TempDir(), "--drain-window", window.String())
	socket := s.socket(t) // it would hold the drain for ten minutes
	s.signal(syscall.SIGTERM)
	readUntil(t, socket, `"reconnect"`)
	s.signal(syscall.SIGTERM)
	if code := s.wait(patience); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got := s.errors(); !strings.Contains(got, "second signal") {
		t.Errorf("it says %q, want the second signal named", got)
	}
}

// socket opens a WebSocket in the room "hello" and waits until it is subscribed.
func (s *server) socket(t testing.TB) *websocket.Conn {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(bounded(t), "ws://"+s.HTTP+"/v1/ws?room=hello", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // it is empty
	t.Cleanup(func() { _ = conn.Close() })
	readUntil(t, conn, `"subscribed"`)
	return conn
}

// checkNoSocket tries to open one more socket on a node that is draining.
func checkNoSocket(t testing.TB, s *server) {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(bounded(t), "ws://"+s.HTTP+"/v1/ws", nil)
	if err == nil {
		_, _ = conn.Close(), resp.Body.Close()
		t.Fatal("a draining node took a new socket")
	}
	if resp == nil {
		t.Fatalf("a new socket: %v, want 503", err)
	}
	_ = resp.Body.Close() // gorilla has read it
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a new socket: %v, %+v; want 503 with Retry-After", err, resp)
	}
}

// readUntil returns the frames up to the first that holds a text.
func readUntil(t testing.TB, conn *websocket.Conn, text string) (frames []string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // never fails
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("waiting for %s: %v", text, err)
		}
		frames = append(frames, string(frame))
		if strings.Contains(string(frame), text) {
			return frames
		}
	}
}

// checkClosed reads to the close frame.
func checkClosed(t testing.TB, conn *websocket.Conn, code int, reason string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // never fails
	for {
		_, _, err := conn.ReadMessage()
		if err == nil {
			continue
		}
		closed, ok := errors.AsType[*websocket.CloseError](err)
		if !ok || closed.Code != code || !strings.HasPrefix(closed.Text, reason) {
			t.Errorf("closed by %v, want %d %s", err, code, reason)
		}
		return
	}
}

func checkHTTP(t testing.TB, url string, status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !strings.Contains(string(got), body) {
		t.Errorf("%s: %d %q, %v; want %d and %q", url, resp.StatusCode, got, err, status, body)
	}
}
