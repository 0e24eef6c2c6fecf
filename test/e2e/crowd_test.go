package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// crowdCommand makes the test binary a crowd: a process has descriptors for as many
// sockets as a node, and what they use is not the test's.
const crowdCommand = "crowd"

// crowdMark is in the text of messages that crowds count.
const crowdMark = "to the crowd"

// crowd is sockets in a process of their own, each of another user.
type crowd struct {
	*process
	Address string // of a node's public listener
	Room    string // that all are in
	Few     string // that the first ten are in too; empty = none
	From    int    // the number of the first user
	Sockets int
}

// gather opens the crowds' sockets, all at once, and waits until all have subscribed.
// They end with the test.
func gather(t testing.TB, crowds ...*crowd) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range crowds {
		spec, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		alive, held, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = held.Close() }) // which ends it, whatever happens to this process
		c.process = startCommand(t, alive, exe, crowdCommand, string(spec))
		_ = alive.Close() // the child has its own
	}
	for _, c := range crowds {
		nodetest.Eventually(t, 5*patience, "the crowd has gathered", func() bool {
			if !c.running() {
				t.Fatalf("a crowd ended: %s", c.errors())
			}
			return strings.Contains(c.output(), "connected")
		})
	}
}

// heard waits until every socket has got n messages, and returns when the last did.
func (c *crowd) heard(n int) (at time.Time) {
	c.t.Helper()
	nodetest.Eventually(c.t, patience, fmt.Sprintf("every socket has got %d messages", n), func() bool {
		_, rest, there := strings.Cut(c.output(), fmt.Sprintf("heard %d at ", n))
		nanos, _, whole := strings.Cut(rest, "\n")
		ns, err := strconv.ParseInt(nanos, 10, 64)
		at = time.Unix(0, ns)
		return there && whole && err == nil
	})
	return at
}

// crowdProcess is the life of a crowd in its own process, until its parent is gone.
func crowdProcess(spec string) error {
	var c crowd
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	listen := &listening{all: c.Sockets, levels: make(map[int]int)}
	if err := c.dial(listen); err != nil {
		return err
	}
	fmt.Println("connected")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// dial opens the sockets, 16 at a time, and has each listened to.
func (c *crowd) dial(l *listening) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, 16)
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(c.Sockets); i = next.Add(1) {
				conn, err := c.socket(int(i) - 1)
				if err != nil {
					failed <- err
					return
				}
				go l.to(conn)
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// socket opens the i-th socket.
func (c *crowd) socket(i int) (*websocket.Conn, error) {
	token, err := auth.Mint([]byte("roomcast-development-key-public-and-insecure"), auth.Claims{
		User: fmt.Sprint("user ", c.From+i), Rooms: map[string][]string{"*": {auth.RightSubscribe}}, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		return nil, err
	}
	query := url.Values{"room": {c.Room}}
	if c.Few != "" && i < 10 {
		query.Add("room", c.Few)
	}
	dialer := websocket.Dialer{ReadBufferSize: 256, WriteBufferSize: 256}
	conn, resp, err := dialer.Dial("ws://"+c.Address+"/v1/ws?"+query.Encode(), http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close() // it is empty
	return conn, awaitSubscribed(conn)
}

// awaitSubscribed reads until a socket is in its room.
func awaitSubscribed(conn *websocket.Conn) error {
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil || bytes.Contains(frame, []byte(`"subscribed"`)) {
			return err
		}
	}
}

// listening counts what the sockets of a crowd get.
type listening struct {
	all int // sockets

	mu     sync.Mutex
	levels map[int]int // how many sockets have got so many messages; guarded by mu
	ends   int         // how many sockets have ended; guarded by mu
}

// to reads what a socket gets, until it ends.
func (l *listening) to(conn *websocket.Conn) {
	got := 0
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			l.ended(err)
			return
		}
		for range bytes.Count(frame, []byte(crowdMark)) {
			got++
			l.reached(got)
		}
	}
}

func (l *listening) reached(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.levels[n]++; l.levels[n] == l.all {
		fmt.Println("heard", n, "at", time.Now().UnixNano())
	} else if l.levels[n] == 1 {
		fmt.Println("first heard", n)
	}
}

// ended tells why the first sockets ended. A test that fails shows it.
func (l *listening) ended(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends++; l.ends <= 20 || l.ends%1000 == 0 {
		fmt.Fprintf(os.Stderr, "%s socket %d to end: %v\n", time.Now().Format(time.TimeOnly), l.ends, err)
	}
}
