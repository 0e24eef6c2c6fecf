package gateway

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// since returns a check of how much of the bubble's time has passed: what is wanted,
// or as much more as a sweep of the clocks may be late, for a ping and for its answer.
func since(t testing.TB) func(want time.Duration) {
	t.Helper()
	began := time.Now()
	return func(want time.Duration) {
		t.Helper()
		if got := time.Since(began); got < want || got > want+2*sweepTime {
			t.Errorf("it took %s, want %s to %s", got, want, want+2*sweepTime)
		}
	}
}

func TestNoPong(t *testing.T) {
	t.Parallel()
	// With an interval below the deadline of a pong the writer must wait, not spin:
	// then the bubble's time would stand still.
	for _, interval := range []time.Duration{defaultPing, 10 * time.Second, 2 * time.Second} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			every := func(c *Config, b *bus) {
				guests(c, b)
				c.PingInterval = interval
			}
			inBubble(t, every, func(w *world) {
				t := w.t
				took := since(t)
				p := w.guest("")
				pings := 0
				p.ws.SetPingHandler(func(string) error { pings++; return nil })
				p.wantClose(4504, "NO_PONG")
				took(interval + pongTimeout)
				if pings != 1 {
					t.Errorf("%d pings, want 1", pings)
				}
				w.wantCloses(map[string]int{"4504": 1})
			})
		})
	}
}

func TestPongsKeepTheSocket(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("")
		answer := p.ws.PingHandler()
		pings := 0
		p.ws.SetPingHandler(func(data string) error {
			if pings++; pings == 20 {
				_ = p.ws.SetReadDeadline(time.Now())
			}
			<-time.After(pongTimeout - time.Millisecond) // just in time
			return answer(data)
		})
		took := since(t)
		if got, err := p.next(); err == nil {
			t.Fatalf("got %s", got)
		}
		took(20*defaultPing + pongTimeout - time.Millisecond)
	})
}

// TestPongWaitsUnread: while the reader is held up by the bus it cannot see the pong.
func TestPongWaitsUnread(t *testing.T) {
	t.Parallel()
	silent := func(c *Config, b *bus) {
		guests(c, b)
		b.silent = true
	}
	inBubble(t, silent, func(w *world) {
		t := w.t
		p := w.guest("")
		elapse(defaultPing - time.Second)
		p.send(`{"id":1,"subscribe":{"room":"a"}}`) // holds the reader for 15 s
		ponged := make(chan struct{})
		p.ws.SetPingHandler(func(string) error {
			go func() {
				defer close(ponged)
				p.raw(frame(pong, "")) // is taken when the reader goes on
			}()
			return nil
		})
		p.want(`{"id":1,"error":{"code":"UNAVAILABLE","reason":"BUS_UNAVAILABLE","message":…,"retryMs":1000}}`)
		<-ponged
		elapse(time.Second)
		p.ws.SetPingHandler(func(string) error { return nil })
		took := since(t)
		p.wantClose(4504, "NO_PONG") // of the next ping, 25 s after the first
		took(2*defaultPing + pongTimeout - (defaultPing - time.Second + requestTimeout + time.Second))
	})
}

func TestNoAuth(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		took := since(t)
		p := w.dial("?room=a", "")
		p.ask(`{"id":9,"ping":{}}`, authMissing)
		p.wantClose(4408, "AUTH_TIMEOUT retry_ms=1000")
		took(authTimeout)
		took = since(t)
		w.dial("?room=a", "").wantClose(4408, "AUTH_TIMEOUT retry_ms=1000") // says nothing at all
		took(authTimeout)
		w.wantCloses(map[string]int{"4408": 2})
	})
}

func TestStalled(t *testing.T) {
	t.Parallel()
	whole := frame(fin|text, `{"id":1,"ping":{}}`)
	tests := map[string]string{
		"half a header":      whole[:1],
		"half a payload":     whole[:12],
		"half a message":     frame(text, `{"id":1,`),
		"half a second one":  whole + whole[:9],
		"pings in a message": frame(text, `{`) + frame(ping, "") + frame(ping, ""),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				t := w.t
				p := w.guest("")
				elapse(5 * time.Second)
				took := since(t)
				p.raw(data)
				p.wantClose(4408, "FRAME_STALLED retry_ms=1000")
				took(stallTimeout)
			})
		})
	}
}

// TestHeldIsNoStall: while its reader waits for this node a peer owes nothing: its
// message is whole, or the rest of it may lie unread.
func TestHeldIsNoStall(t *testing.T) {
	t.Parallel()
	slow := func(c *Config, b *bus) {
		guests(c, b)
		b.silent, b.acks = true, make(chan struct{}) // a request takes requestTimeout
	}
	request := frame(fin|text, `{"id":1,"subscribe":{"room":"a"}}`)
	publish := frame(fin|text, `{"publish":{"room":"chat:1"}}`)
	tests := map[string]struct {
		parts []string // a second between them
		want  string   // the last answer
	}{
		"a request in two parts": {
			[]string{request[:9], request[9:]},
			`{"id":1,"error":{"code":"UNAVAILABLE","reason":"BUS_UNAVAILABLE","message":…,"retryMs":1000}}`,
		},
		"the rest lies unread": {
			[]string{strings.Repeat(publish, maxControlFrames) + frame(text, `{"id":1,`), frame(ping, ""), frame(fin|more, `"ping":{}}`)},
			`{"id":1,"pong":{}}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, slow, func(w *world) {
				t := w.t
				defer close(w.bus.acks)
				p := w.guest("")
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for _, part := range test.parts {
						_, _ = p.ws.NetConn().Write([]byte(part))
						<-time.After(time.Second)
					}
				}()
				for got := ""; got != test.want; {
					var err error
					if got, err = p.next(); err != nil {
						t.Error(err)
						break
					}
				}
				<-sent
			})
		})
	}
}

// TestStreamingIsNoStall has a client whose bytes never end at a frame's end, for
// longer than any one message may take.
func TestStreamingIsNoStall(t *testing.T) {
	t.Parallel()
	noPings := func(c *Config, b *bus) { // a pong would fall into the middle of a frame
		guests(c, b)
		c.PingInterval = time.Hour
	}
	inBubble(t, noPings, func(w *world) {
		t := w.t
		p := w.guest("")
		var answers []string
		read := make(chan struct{})
		go func() {
			defer close(read)
			for {
				got, err := p.next()
				if err != nil {
					return
				}
				answers = append(answers, got)
			}
		}()
		var stream strings.Builder
		const requests = 20
		for i := range requests {
			stream.WriteString(frame(fin|text, fmt.Sprintf(`{"id":%d,"ping":{}}`, i+1)))
		}
		data := stream.String()
		for len(data) > 0 {
			n := min(27, len(data)) // a frame has 24 or 25
			p.raw(data[:n])
			data = data[n:]
			<-time.After(4 * time.Second)
		}
		if n := w.closes("4408"); n != 0 {
			t.Error("closed as stalled")
		}
		p.raw(closeFrame(1000, ""))
		<-read
		if len(answers) != requests {
			t.Errorf("%d answers, want %d", len(answers), requests)
		}
	})
}

// TestUnreadMessages: a peer that does not read its messages is too slow after the
// deadline of one write.
func TestUnreadMessages(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		elapse(time.Second)
		w.bus.append("a", "x")
		elapse(writeTimeout - time.Millisecond)
		if n := w.gw.Connections(); n != 1 {
			t.Fatalf("%d connections before the deadline, want 1", n)
		}
		elapse(time.Millisecond + closeGrace + 2*sweepTime)
		w.wantCloses(map[string]int{"4502": 1})
		if n := w.gw.Connections(); n != 0 {
			t.Fatalf("%d connections after the deadline, want 0", n)
		}
		if _, err := p.next(); !websocket.IsUnexpectedCloseError(err) && err == nil {
			t.Errorf("the peer got %v, want the end of the connection", err)
		}
	})
}

// TestUnreadAnswers: answers that are not read stop the reading of requests, then end
// the socket.
func TestUnreadAnswers(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("")
		_ = p.ws.NetConn().SetWriteDeadline(time.Now().Add(5 * time.Second))
		sent := 0
		for ; ; sent++ {
			if _, err := p.ws.NetConn().Write([]byte(frame(fin|text, `{"id":1,"ping":{}}`))); err != nil {
				break
			}
		}
		// At most a queue's worth is being written, the queue is full, one request waits
		// for room and one is being read.
		if most := 2*maxControlFrames + 2; sent > most {
			t.Errorf("%d requests were read, want at most %d", sent, most)
		}
		elapse(writeTimeout + closeGrace + 2*sweepTime)
		w.wantCloses(map[string]int{"4429": 1})
	})
}

// TestSlowLogIsNoUnread: answers that the log owes are not the client's fault.
func TestSlowLogIsNoUnread(t *testing.T) {
	t.Parallel()
	held := func(c *Config, b *bus) {
		guests(c, b)
		b.acks = make(chan struct{})
	}
	inBubble(t, held, func(w *world) {
		t := w.t
		p := w.guest("")
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range 2 * maxControlFrames {
				p.send(fmt.Sprintf(`{"id":%d,"publish":{"room":"chat:1"}}`, i+1))
			}
		}()
		elapse(14 * time.Second) // less than requestTimeout
		if n := len(w.bus.logs["chat:1"]); n != maxControlFrames {
			t.Errorf("%d publications in flight, want %d", n, maxControlFrames)
		}
		close(w.bus.acks)
		for range 2 * maxControlFrames {
			if got, err := p.next(); err != nil || !strings.Contains(got, "published") {
				t.Fatalf("got %s, %v", got, err)
			}
		}
		<-sent
	})
}

func TestFloods(t *testing.T) {
	t.Parallel()
	padded := `{"ping":{}}` + strings.Repeat(" ", 100<<10)
	tests := map[string]struct {
		data  string
		times int
	}{
		"pings":               {frame(ping, "x"), framesBurst + 1},
		"pongs":               {frame(pong, ""), framesBurst + 1},
		"empty continuations": {frame(more, ""), framesBurst + 1},
		"requests":            {frame(fin|text, `{"ping":{}}`), framesBurst + 1},
		"bytes":               {frame(fin|text, padded), bytesBurst/len(padded) + 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				p := w.guest("")
				p.raw(frame(text, ``)) // a message begins, for the continuations
				if test.data != frame(more, "") {
					p.raw(frame(fin|more, `{"ping":{}}`))
				}
				written := make(chan struct{})
				go func() {
					defer close(written)
					for range test.times {
						if _, err := p.ws.NetConn().Write([]byte(test.data)); err != nil {
							return
						}
					}
				}()
				p.wantClose(4429, "TOO_FAST retry_ms=5000")
				<-written
				w.wantCloses(map[string]int{"4429": 1})
			})
		})
	}
}

// TestBudgetIsARate: what would be a flood at once is none in its time.
func TestBudgetIsARate(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		p := w.guest("")
		for range 20 {
			for range framesPerSec {
				p.raw(frame(pong, ""))
			}
			elapse(time.Second)
		}
		synctest.Wait()
		p.ask(`{"id":1,"ping":{}}`, `{"id":1,"pong":{}}`)
	})
}
