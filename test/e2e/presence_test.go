package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/roomcast/roomcast/client"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// serveOn starts a node in a process of its own on an external NATS.
func serveOn(t testing.TB, name, nats string) *server {
	t.Helper()
	return serve(t, "--dev", "--node", name, "--nats-url", nats, "--data-dir", t.TempDir(), "--drain-window", "1s")
}

// asker asks a node about presence.
type asker struct {
	roomcastv1.PresenceServiceClient
	roomcastv1.PublishServiceClient
}

func (s *server) asker(t testing.TB) asker {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return asker{roomcastv1.NewPresenceServiceClient(conn), roomcastv1.NewPublishServiceClient(conn)}
}

// wholes waits until a node's answers are complete and count so many connections in a
// room.
func (a asker) wholes(t testing.TB, name string, connections int) {
	t.Helper()
	last := ""
	defer func() {
		if t.Failed() {
			t.Logf("the last answer was %s", last)
		}
	}()
	nodetest.Eventually(t, patience, fmt.Sprintf("room %s has %d connections", name, connections), func() bool {
		resp, err := a.GetRoom(bounded(t), &roomcastv1.GetRoomRequest{Room: name})
		last = fmt.Sprint(resp, err)
		return err == nil && resp.GetComplete() && int(resp.GetConnections()) == connections
	})
}

// member is a socket of a test.
type member struct {
	t          testing.TB
	conn       *websocket.Conn
	connection string
	requests   uint32
	number     uint32 // of the truth, for an order
}

type memberFrame struct {
	ID      uint32 `json:"id"`
	Welcome *struct {
		Connection string `json:"connection"`
	} `json:"welcome"`
	Error *struct {
		Reason string `json:"reason"`
	} `json:"error"`
}

func (s *server) member(t testing.TB) *member {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(bounded(t), "ws://"+s.HTTP+"/v1/ws", http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // it is empty
	t.Cleanup(func() { _ = conn.Close() })
	m := &member{t: t, conn: conn}
	m.connection = m.read().Welcome.Connection
	return m
}

func (m *member) read() (f memberFrame) {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(patience)) // never fails
	if err := m.conn.ReadJSON(&f); err != nil {
		m.t.Fatalf("read a frame: %v", err)
	}
	return f
}

// ask sends a request, such as subscribe, and waits for its answer.
func (m *member) ask(request, name string) {
	m.t.Helper()
	m.requests++
	text := fmt.Sprintf(`{"id":%d,%q:{"room":%q}}`, m.requests, request, name)
	if err := m.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		m.t.Fatal(err)
	}
	for {
		if f := m.read(); f.ID == m.requests {
			if f.Error != nil {
				m.t.Fatalf("%s: %s", text, f.Error.Reason)
			}
			return
		}
	}
}

// watcher follows a room by WatchRoom as a program would: it has only what it was told.
type watcher struct {
	mu     sync.Mutex
	there  map[string]bool
	leaves []string // "connection reason"
	events int
}

func (s *server) watcher(t testing.TB, name string) *watcher {
	t.Helper()
	p, err := client.DialPresence(s.GRPC, client.WithPlaintext())
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Watch(ctx, name, w.take) // it ends with the test
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = p.Close()
	})
	nodetest.Eventually(t, patience, "the watch has begun", func() bool { return w.count() > 0 })
	return w
}

func (w *watcher) take(e client.PresenceEvent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	switch {
	case e.Join != nil:
		w.there[e.Join.Connection] = true
	case e.Leave != nil:
		delete(w.there, e.Leave.Member.Connection)
		w.leaves = append(w.leaves, e.Leave.Member.Connection+" "+e.Leave.Reason)
	case e.Snapshot != nil:
		w.there = make(map[string]bool)
		for _, m := range e.Snapshot.Members {
			w.there[m.Connection] = true
		}
	}
	return nil
}

func (w *watcher) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events
}

func (w *watcher) members() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.there))
}

func (w *watcher) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.there)
}

func (w *watcher) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(slices.Values(w.leaves))
}
