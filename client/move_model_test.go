package client

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

var seeds = flag.Uint64("seeds", 12, "seeds of TestMovesLoseNothing")

// TestMovesLoseNothing has nodes at random drain, close, break off, refuse and answer
// late, while rooms go on: whatever happens, each room's messages come in order, once.
func TestMovesLoseNothing(t *testing.T) {
	t.Parallel()
	moves, fallbacks := uint64(0), uint64(0)
	shown := func() bool { return moves >= 2**seeds && fallbacks >= *seeds/5 }
	for seed := uint64(0); seed < *seeds || seed < 10**seeds && !shown(); seed++ {
		ok := t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModelNodes(t, seed)
				moves += uint64(m.run())
				fallbacks += uint64(m.again)
			})
		})
		if !ok {
			return
		}
	}
	if !shown() {
		t.Errorf("got only %d moves and %d rooms that went back, so this has shown nothing", moves, fallbacks)
	}
}

// modelNodes are nodes that share a log.
type modelNodes struct {
	*socketServer
	serving sync.WaitGroup

	mu    sync.Mutex
	rng   *rand.Rand
	ends  map[string]int // of the log, by room
	calm  bool           // no more trouble
	again int            // subscribes of a room that the socket had
}

func newModelNodes(t *testing.T, seed uint64) *modelNodes {
	t.Helper()
	m := &modelNodes{
		socketServer: newVirtualServer(t),
		rng:          rand.New(rand.NewPCG(seed, 1)),
		ends:         map[string]int{"a": 10, "b": 20, "c": 30},
	}
	m.refuseWith(func(w http.ResponseWriter, r *http.Request) {
		if m.chance(5) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		upgrader := websocket.Upgrader{Subprotocols: []string{subprotocol}}
		if conn, err := upgrader.Upgrade(w, r, nil); err == nil {
			m.serving.Go(func() { m.serve(conn) })
		}
	})
	return m
}

// below returns a random number below n.
func (m *modelNodes) below(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

// chance is true once in n times, while there is trouble.
func (m *modelNodes) chance(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.calm && m.rng.IntN(n) == 0
}

func (m *modelNodes) end(room string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ends[room]
}

// serve is one socket's node: it answers, delivers, and at some time asks it to go.
func (m *modelNodes) serve(conn *websocket.Conn) {
	defer func() { _ = conn.Close() }()
	asked := make(chan clientFrame, 64)
	m.serving.Go(func() {
		defer close(asked)
		for {
			var frame clientFrame
			if conn.ReadJSON(&frame) != nil {
				return
			}
			asked <- frame
		}
	})
	send := func(frame string) { _ = conn.WriteMessage(websocket.TextMessage, []byte(frame)) } // a broken one shows in asked
	<-time.After(time.Duration(m.below(20)) * time.Millisecond)
	send(welcomeOf(fmt.Sprintf("n%d", m.below(4))))
	drain := time.After(time.Duration(20+m.below(400)) * time.Millisecond)
	var closing <-chan time.Time
	cursors := map[string]int{}
	for {
		select {
		case frame, open := <-asked:
			if !open || m.chance(15) {
				return
			}
			m.answer(frame, cursors, send)
		case <-drain:
			if m.chance(3) {
				return
			}
			send(`{"reconnect":{"withinMs":200,"reason":"DRAINING"}}`)
			closing = time.After(time.Duration(30+m.below(500)) * time.Millisecond)
		case <-closing:
			m.mu.Lock()
			calm := m.calm
			m.mu.Unlock()
			if !calm {
				_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1012, "DRAINING retry_ms=20"), time.Now().Add(time.Second))
				return
			}
		case <-time.After(time.Duration(1+m.below(6)) * time.Millisecond):
			for room, at := range cursors {
				if at < m.end(room) {
					cursors[room]++
					send(message(room, at+1))
				}
			}
		}
	}
}

func (m *modelNodes) answer(frame clientFrame, cursors map[string]int, send func(string)) {
	room := frame.Subscribe.Room
	if m.chance(10) {
		send(fmt.Sprintf(`{"id":%d,"error":{"code":"UNAVAILABLE","retryMs":10}}`, frame.ID))
		return
	}
	if _, had := cursors[room]; had {
		m.mu.Lock()
		m.again++
		m.mu.Unlock()
	}
	cursors[room] = m.end(room)
	if frame.Subscribe.After != "" {
		cursors[room] = number(m.t, frame.Subscribe.After)
	}
	send(fmt.Sprintf(`{"id":%d,"subscribed":{"room":%q,"position":"e.%d."}}`, frame.ID, room, cursors[room]))
}

func number(t *testing.T, position string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.Split(position, ".")[1])
	if err != nil {
		t.Errorf("position %q: %v", position, err)
	}
	return n
}

// run publishes for a while, then checks that all has come. It returns how often the
// subscription has moved.
func (m *modelNodes) run() (moves int) {
	var configs []RoomConfig
	for _, room := range []string{"a", "b", "c"} {
		configs = append(configs, RoomConfig{Room: room, After: fmt.Sprintf("e.%d.m", m.ends[room])})
	}
	next := map[string]int{"a": 11, "b": 21, "c": 31}
	sub := m.subscribe(Config{Rooms: configs})
	go func() {
		for range 600 {
			<-time.After(5 * time.Millisecond)
			m.mu.Lock()
			m.ends[string(rune('a'+m.rng.IntN(3)))]++
			m.mu.Unlock()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.calm = true
	}()
	for missing := 600; missing > 0; {
		switch e := nextEvent(m.t, sub).(type) {
		case Delivery:
			if got := number(m.t, e.ID); got != next[e.Room] {
				m.t.Fatalf("room %s: got message %d, want %d", e.Room, got, next[e.Room])
			}
			next[e.Room]++
			missing--
		case Gap:
			raw, _ := json.Marshal(e) //nolint:errchkjson // for people
			m.t.Fatalf("gap %s", raw)
		case StateChange:
			if e.State == Moved {
				moves++
			}
		}
	}
	sub.Close()
	m.serving.Wait()
	return moves
}
