package client

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

const leave = `{"reconnect":{"withinMs":1000,"reason":"DRAINING"}}`

// welcomeOf is a node's first frame.
func welcomeOf(node string) string {
	return fmt.Sprintf(`{"welcome":{"connection":"c","user":"ann","node":%q,"pingMs":25000}}`, node)
}

func message(room string, n int) string {
	return fmt.Sprintf(`{"message":{"room":%q,"id":"e.%d.m"}}`, room, n)
}

// wantEvents checks the next events, in short.
func wantEvents(t *testing.T, sub *Subscription, want ...string) {
	t.Helper()
	var got []string
	for range want {
		got = append(got, short(nextEvent(t, sub)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("events (-want +got)\n%s", diff)
	}
}

func short(event Event) string {
	switch e := event.(type) {
	case Delivery:
		return e.Room + " " + e.ID
	case Gap:
		return e.Room + " " + e.Reason
	case Subscribed:
		return e.Room + " at " + e.Position
	case StateChange:
		return string(e.State) + " " + e.Node + e.Reason
	}
	return fmt.Sprint(event)
}

// moving is a subscription to a and b whose node, n1, has asked it to move, and whose
// second connection the server has accepted.
type moving struct {
	*socketServer
	sub      *Subscription
	old, new *socketConn
}

func startMoving(t *testing.T) *moving {
	t.Helper()
	m := &moving{socketServer: newVirtualServer(t)}
	m.sub = m.subscribe(Config{Rooms: []RoomConfig{{Room: "a"}, {Room: "b"}}})
	m.old = m.welcome()
	m.old.answer(m.old.wantSubscribe("a", ""), "a", "e.1.")
	m.old.answer(m.old.wantSubscribe("b", ""), "b", "e.1.")
	m.old.send(message("a", 2))
	wantEvents(t, m.sub, "connected n1", "a at e.1.", "b at e.1.", "a e.2.m")
	start := time.Now()
	m.old.send(leave)
	m.new = m.accept()
	if got := time.Since(start); got > time.Second/moveSpread {
		t.Errorf("got the new connection after %s, want it in the first quarter of the time", got)
	}
	m.old.send(message("b", 3)) // not asked for elsewhere yet
	wantEvents(t, m.sub, "b e.3.m")
	return m
}

func TestMove(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startMoving(t)
		m.new.send(welcomeOf("n2"))
		a, b := m.new.wantSubscribe("a", "e.2.m"), m.new.wantSubscribe("b", "e.3.m")
		m.old.send(message("a", 4)) // it will come again
		m.new.answer(a, "a", "e.2.m")
		m.new.send(message("a", 4))
		m.old.send(message("a", 5), message("b", 6))
		wantEvents(t, m.sub, "a at e.2.m", "a e.4.m")
		start := time.Now()
		m.new.answer(b, "b", "e.3.m")
		m.new.send(message("a", 5), message("b", 6))
		m.old.wantGoodbye()
		if got := time.Since(start); got > 0 {
			t.Errorf("got the end of the old connection %s after all has moved, want it at once", got)
		}
		// The reader of the new connection and what tells of the move are two.
		got := map[string]bool{}
		for range 4 {
			got[short(nextEvent(t, m.sub))] = true
		}
		want := map[string]bool{"b at e.3.m": true, "moved n2DRAINING": true, "a e.5.m": true, "b e.6.m": true}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		// The new one is like any other: it is asked to move too.
		m.new.send(leave)
		m.old, m.new = m.new, m.accept()
		m.new.send(welcomeOf("n3"))
		m.new.answer(m.new.wantSubscribe("a", "e.5.m"), "a", "e.5.m")
		m.new.answer(m.new.wantSubscribe("b", "e.6.m"), "b", "e.6.m")
		m.old.wantGoodbye()
	})
}

// TestMoveFails: what the new connection had taken goes back to the old one, at the
// position that it had reached, and a third one is tried.
func TestMoveFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startMoving(t)
		m.new.send(welcomeOf("n2"))
		a := m.new.wantSubscribe("a", "e.2.m")
		m.new.wantSubscribe("b", "e.3.m")
		m.new.answer(a, "a", "e.2.m")
		m.new.send(message("a", 4))
		m.old.send(message("a", 4), message("b", 5)) // both taken over
		wantEvents(t, m.sub, "a at e.2.m", "a e.4.m")
		if err := m.sub.Add("c", ""); err != nil {
			t.Fatal(err)
		}
		m.new.wantSubscribe("c", "")
		m.new.drop()
		a, b, c := m.old.wantSubscribe("a", "e.4.m"), m.old.wantSubscribe("b", "e.3.m"), m.old.wantSubscribe("c", "")
		m.old.send(message("a", 6), message("b", 5), message("b", 6)) // before the answers: they come again
		m.old.answer(a, "a", "e.4.m")
		m.old.answer(b, "b", "e.3.m")
		m.old.answer(c, "c", "e.6.")
		m.old.send(message("b", 5))
		wantEvents(t, m.sub, "a at e.4.m", "b at e.3.m", "c at e.6.", "b e.5.m")
		again := m.accept()
		again.send(welcomeOf("n2"))
		again.wantSubscribe("a", "e.4.m")
		again.wantSubscribe("b", "e.5.m")
		again.wantSubscribe("c", "e.6.")
	})
}

// TestLateAnswer: a subscribe that was overtaken by two others is answered last.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newVirtualServer(t)
		sub := server.subscribe(Config{Rooms: []RoomConfig{{Room: "a", After: "e.1.m"}}})
		old := server.welcome()
		first := old.wantSubscribe("a", "e.1.m")
		old.send(leave)
		other := server.accept()
		other.send(welcomeOf("n2"))
		// A second room keeps the new connection from having all.
		id := other.wantSubscribe("a", "e.1.m")
		if err := sub.Add("b", ""); err != nil {
			t.Fatal(err)
		}
		other.wantSubscribe("b", "")
		other.answer(id, "a", "e.1.m")
		other.send(message("a", 2))
		wantEvents(t, sub, "connected n1", "a at e.1.m", "a e.2.m")
		other.drop()
		second := old.wantSubscribe("a", "e.2.m")
		old.wantSubscribe("b", "")
		old.answer(first, "a", "e.1.m")
		old.send(message("a", 2)) // of the first
		old.answer(second, "a", "e.2.m")
		old.send(message("a", 3))
		wantEvents(t, sub, "a at e.2.m", "a e.3.m")
	})
}

// TestOnlyTheNewestAsks: what the old connection was told to ask for again is the new
// one's to ask for.
func TestOnlyTheNewestAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newVirtualServer(t)
		sub := server.subscribe(Config{Rooms: []RoomConfig{{Room: "a"}, {Room: "b"}}})
		old := server.welcome()
		old.send(fmt.Sprintf(`{"id":%d,"error":{"code":"UNAVAILABLE","retryMs":500}}`, old.wantSubscribe("a", "")))
		old.answer(old.wantSubscribe("b", ""), "b", "e.1.")
		old.send(leave)
		other := server.accept()
		other.send(welcomeOf("n2"))
		other.answer(other.wantSubscribe("a", ""), "a", "e.1.")
		id := other.wantSubscribe("b", "e.1.")
		<-time.After(time.Second)
		other.answer(id, "b", "e.1.")
		if _, frame, err := old.conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("got %s, %v, want the end of the old connection and no request", frame, err)
		}
		wantEvents(t, sub, "connected n1", "b at e.1.", "a at e.1.", "b at e.1.", "moved n2DRAINING")
	})
}

// TestMoveAfterTheEnd: the node closes the old connection before the new one has all.
func TestMoveAfterTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startMoving(t)
		m.new.send(welcomeOf("n2"))
		a := m.new.wantSubscribe("a", "e.2.m")
		m.old.close(1012, "DRAINING retry_ms=60000")
		wantEvents(t, m.sub, "moved n2DRAINING")
		m.new.answer(a, "a", "e.2.m")
		m.new.answer(m.new.wantSubscribe("b", "e.3.m"), "b", "e.3.m")
		m.new.send(message("b", 4))
		wantEvents(t, m.sub, "a at e.2.m", "b at e.3.m", "b e.4.m")
	})
}

// TestNowhereToMove: the old connection serves until the node closes it.
func TestNowhereToMove(t *testing.T) {
	t.Parallel()
	tests := map[string]func(m *moving){
		"all refuse": func(m *moving) {
			m.refuseWith(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			m.new.drop()
		},
		"for good": func(m *moving) {
			m.refuseWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
			m.new.drop()
		},
		"no welcome": func(*moving) {},
		"the same node": func(m *moving) {
			m.new.send(welcomeOf("n1"))
			m.new.wantGoodbye()
		},
		"a room refused": func(m *moving) {
			m.new.send(welcomeOf("n2"))
			a := m.new.wantSubscribe("a", "e.2.m")
			m.new.wantSubscribe("b", "e.3.m")
			m.new.send(fmt.Sprintf(`{"id":%d,"error":{"code":"PERMISSION_DENIED"}}`, a))
			m.new.wantGoodbye()
			m.old.answer(m.old.wantSubscribe("a", "e.2.m"), "a", "e.2.m")
			m.old.answer(m.old.wantSubscribe("b", "e.3.m"), "b", "e.3.m")
			wantEvents(m.t, m.sub, "a at e.2.m", "b at e.3.m")
		},
	}
	for name, fail := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := startMoving(t)
				fail(m)
				m.old.send(message("b", 4))
				wantEvents(t, m.sub, "b e.4.m")
				m.old.close(1012, "DRAINING retry_ms=2000")
				start := time.Now()
				wantEvents(t, m.sub, "disconnected DRAINING")
				m.refuseWith(nil)
				for {
					conn := m.accept() // one of a try to move may be before it
					if time.Since(start) >= 2*time.Second {
						conn.send(welcomeOf("n2"))
						break
					}
				}
				wantEvents(t, m.sub, "connected n2")
			})
		})
	}
}

func TestCloseWhileMoving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startMoving(t)
		m.new.send(welcomeOf("n2"))
		m.new.wantSubscribe("a", "e.2.m")
		m.new.wantSubscribe("b", "e.3.m")
		go m.sub.Close()
		m.new.wantGoodbye()
		m.old.wantGoodbye()
	})
}

// TestRemoveWhileMoving: both sockets leave the room, and nothing waits for it.
func TestRemoveWhileMoving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startMoving(t)
		m.new.send(welcomeOf("n2"))
		a, b := m.new.wantSubscribe("a", "e.2.m"), m.new.wantSubscribe("b", "e.3.m")
		m.sub.Remove("a")
		for _, conn := range []*socketConn{m.old, m.new} {
			if got := conn.receive(); got.Unsubscribe == nil || got.Unsubscribe.Room != "a" {
				t.Fatalf("got %+v, want a left", got)
			}
		}
		m.new.answer(a, "a", "e.2.m")
		m.new.answer(b, "b", "e.3.m")
		m.new.send(message("a", 4), message("b", 5))
		m.old.wantGoodbye()
		for {
			if got := short(nextEvent(t, m.sub)); got == "b e.5.m" {
				return
			} else if got == "a e.4.m" {
				t.Error("got a message of a room that was left")
			}
		}
	})
}
