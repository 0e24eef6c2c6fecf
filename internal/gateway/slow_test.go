package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/roomcast/roomcast/internal/room"
)

// TestSlowSocketGetsAll: a subscriber that does not read for a while falls out of the
// ring and is served from the log, in order and without a gap.
func TestSlowSocketGetsAll(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		slow, fast := w.guest("?room=a"), w.guest("?room=a")
		slow.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		fast.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		const messages = 5000
		for i := range messages {
			w.bus.append("a", fmt.Sprint(i))
			fast.want(fmt.Sprint("m a ", i))
			if i == 0 {
				synctest.Wait() // the slow one is at its first message
			}
		}
		if n := w.bus.readCount(); n != 0 {
			t.Errorf("the fast socket made %d reads of the log, want none", n)
		}
		elapse(writeTimeout - time.Second)
		for i := range messages {
			slow.want(fmt.Sprint("m a ", i))
		}
		w.bus.append("a", "live")
		slow.want("m a live")
		if n, most := w.bus.readCount(), messages/256+2; n == 0 || n > most {
			t.Errorf("%d reads of the log, want 1 to %d", n, most)
		}
	})
}

// TestSlowOverTCP is the same through the kernel's buffers, which take a part of a
// write at a time, and shows hop 5 in the log.
func TestSlowOverTCP(t *testing.T) {
	t.Parallel()
	onEdge(t, false, func(c *Config) { guests(c, nil) }, func(t *testing.T, e *edge) {
		t.Helper()
		p := e.connect(t, websocket.Dialer{}, "ws", "?room=a")
		p.want("welcome guest", `{"subscribed":{"room":"a","position":"@10"}}`)
		const messages = 1500
		pad := strings.Repeat("x", 8<<10)
		for i := range messages {
			e.bus.append("a", fmt.Sprint(i, pad))
		}
		for i := range messages {
			p.want(fmt.Sprint("m a ", i, pad))
		}
		hop := fmt.Sprintf(`"hop":5,"room":"a","id":%q`, at(start+messages))
		e.eventually(t, "the log has "+hop, func() bool { return strings.Contains(e.logs.String(), hop) })
	})
}

// TestSlowAndSteady: a socket that always reads, but slower than messages come, is
// served on and on; also in an ephemeral room, which tells what it lost.
func TestSlowAndSteady(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a&room=eph:b")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`, `{"subscribed":{"room":"eph:b"}}`)
		const messages = 2000
		for i := range messages {
			w.bus.append("a", fmt.Sprint(i))
			w.bus.append("eph:b", fmt.Sprint(i))
		}
		var seen, lost, gaps, next int
		for seen+lost < messages || next < messages {
			<-time.After(100 * time.Millisecond)
			got, err := p.next()
			if err != nil {
				t.Fatalf("after %d and %d messages: %v", next, seen, err)
			}
			var n int
			switch {
			case strings.HasPrefix(got, "m a "):
				if got != fmt.Sprint("m a ", next) {
					t.Fatalf("got %s, want message %d", got, next)
				}
				next++
			case strings.HasPrefix(got, `{"gap"`):
				gaps++
			default:
				if _, err := fmt.Sscanf(got, "m eph:b %d", &n); err != nil || n < seen+lost {
					t.Fatalf("got %s after %d seen and %d lost", got, seen, lost)
				}
				if n != seen+lost && gaps == 0 {
					t.Fatalf("got %s after %d without a gap", got, seen)
				}
				lost = n - seen
				seen++
			}
		}
		if gaps == 0 || lost == 0 {
			t.Errorf("%d gaps and %d lost in the ephemeral room, want some", gaps, lost)
		}
	})
}

// TestRoomsTakeTurns: a room with many messages does not hold up one with few.
func TestRoomsTakeTurns(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=busy&room=quiet")
		p.want(`{"subscribed":{"room":"busy","position":"@10"}}`, `{"subscribed":{"room":"quiet","position":"@10"}}`)
		for i := range 400 {
			w.bus.append("busy", fmt.Sprint(i))
		}
		w.bus.append("quiet", "here")
		for read := 0; ; read++ {
			got, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			if got == "m quiet here" {
				// A pass over the room, and a turn of the socket. Another turn comes before
				// the other room's pass if the peer has read all by then.
				if read > 3*maxFrames {
					t.Errorf("it came after %d messages of the other room, want at most %d", read, 3*maxFrames)
				}
				return
			}
		}
	})
}

// fallBehind makes the socket's cursors in the rooms miss their rings: each room gets
// messages that the peer does not read yet.
func fallBehind(w *world, messages int, rooms ...room.Name) {
	for i := range messages {
		for _, name := range rooms {
			w.bus.append(name, fmt.Sprint(i))
		}
	}
}

// TestLogFails: a log that answers errors is asked twice a second, not more, holds up
// no other room, and gets another chance.
func TestLogFails(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		broken := errors.New("no leader")
		w.bus.set(func() { w.bus.broken["sick"] = broken })
		p := w.guest("?room=sick&room=well&room=live")
		for range 3 {
			if _, err := p.next(); err != nil {
				t.Fatal(err)
			}
		}
		const messages = 1000
		fallBehind(w, messages, "sick", "well")
		next := map[string]int{}
		read := func(n int) {
			t.Helper()
			for range n {
				got, err := p.next()
				if err != nil {
					t.Fatal(err)
				}
				name, i, _ := strings.Cut(strings.TrimPrefix(got, "m "), " ")
				if i != fmt.Sprint(next[name]) {
					t.Fatalf("got %s, want message %d", got, next[name])
				}
				next[name]++
			}
		}
		for next["well"] < messages {
			read(1)
		}
		before := w.bus.readCount()
		elapse(20 * time.Second)
		if n := w.bus.readCount() - before; n < 35 || n > 41 {
			t.Errorf("the failing log was asked %d times in 20 s, want about 40", n)
		}
		w.bus.append("live", "0")
		read(1)
		if n := strings.Count(w.logs.String(), "read log"); n != 1 {
			t.Errorf("%d lines about one failing log, want 1", n)
		}
		w.bus.set(func() { delete(w.bus.broken, "sick") })
		read(messages - next["sick"])
	})
}

// TestLogHangs: a log that does not answer at all holds up neither pings nor the end.
func TestLogHangs(t *testing.T) {
	t.Parallel()
	stuck := func(c *Config, b *bus) {
		guests(c, b)
		b.hangs = true
	}
	inBubble(t, stuck, func(w *world) {
		t := w.t
		p := w.guest("")
		p.ask(`{"id":1,"subscribe":{"room":"a","after":"e.5.c"}}`, `{"id":1,"subscribed":{"room":"a","position":"@5"}}`)
		pings := 0
		answer := p.ws.PingHandler()
		p.ws.SetPingHandler(func(data string) error {
			if pings++; pings == 10 {
				_ = p.ws.SetReadDeadline(time.Now())
			}
			return answer(data)
		})
		began := time.Now()
		if got, err := p.next(); err == nil {
			t.Fatalf("got %s", got)
		}
		if took, most := time.Since(began), 10*(defaultPing+5*time.Second); took > most {
			t.Errorf("10 pings took %s, want at most %s", took, most)
		}
		began = time.Now()
		w.gw.Drain(t.Context(), 0)
		if took := time.Since(began); took > 2*closeGrace {
			t.Errorf("the end took %s", took)
		}
	})
}

// TestLargeMessages: a write holds no more bytes than a slow peer can take in its
// deadline.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		p := w.guest("?room=a")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		large := strings.Repeat("x", 60<<10)
		for range 30 {
			w.bus.append("a", large)
		}
		for range 30 {
			<-time.After(2 * time.Second) // 64 of them would take 128 s, 4 take 8 s
			p.want("m a " + large)
		}
	})
}

// TestManySockets has sockets that come and go while messages are published. Each
// must see each message between its subscribed and its unsubscribed once, in order.
func TestManySockets(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		const sockets, rounds = 100, 3
		stop := make(chan struct{})
		var publisher, clients sync.WaitGroup
		publisher.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					w.bus.append("a", fmt.Sprint(i))
				}
			}
		})
		for n := range sockets {
			clients.Go(func() {
				p := w.dial("", "")
				for range rounds {
					stay(p, 5+n%7)
				}
				if n%2 == 0 {
					p.raw(closeFrame(1000, ""))
				}
				_ = p.ws.Close()
			})
		}
		clients.Wait()
		close(stop)
		publisher.Wait()
		elapse(2 * closeGrace)
		if n := w.gw.Connections() + w.hub.Rooms(); n != 0 {
			t.Errorf("%d sockets and rooms are left", n)
		}
	})
}

// stay subscribes, reads some messages, and leaves.
func stay(p *peer, messages int) {
	p.send(`{"id":1,"subscribe":{"room":"a"}}`)
	last, read := -1, 0
	for {
		got, err := p.next()
		if err != nil {
			p.t.Errorf("read: %v", err)
			return
		}
		var n int
		switch {
		case got == `{"id":2,"unsubscribed":{"room":"a"}}`:
			return
		case !strings.HasPrefix(got, "m a "):
		default:
			if _, err := fmt.Sscanf(got, "m a %d", &n); err != nil || last >= 0 && n != last+1 {
				p.t.Errorf("got %s after %d", got, last)
				return
			}
			last = n
			if read++; read == messages {
				p.send(`{"id":2,"unsubscribe":{"room":"a"}}`)
			}
		}
	}
}

// TestManyRoomsResume: one session with the most rooms, all of which resume at once from the log.
func TestManyRoomsResume(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		const rooms, per = 1000, 20
		for i := range rooms {
			for j := range per {
				w.bus.append(room.Name(fmt.Sprint("r", i)), fmt.Sprint(j))
			}
		}
		p := w.guest("")
		go func() {
			for i := range rooms {
				_ = p.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":1,"subscribe":{"room":"r%d","after":%q}}`, i, at(15).String()))
				<-time.After(6 * time.Millisecond)
			}
		}()
		next := map[string]int{}
		total := 0
		for total < rooms*(per-5) {
			got, err := p.next()
			if err != nil {
				t.Fatalf("after %d: %v", total, err)
			}
			if !strings.HasPrefix(got, "m ") {
				continue
			}
			f := strings.Fields(got)
			if f[2] != fmt.Sprint(5+next[f[1]]) {
				t.Fatalf("got %s, want %d", got, 5+next[f[1]])
			}
			next[f[1]]++
			total++
		}
		if n := w.bus.readCount(); n > rooms {
			t.Errorf("%d reads of %d logs", n, rooms)
		}
	})
}

// TestPeerClosesUnread: a peer that says good-bye and does not read what is before the
// answer is let go, and leaves its room.
func TestPeerClosesUnread(t *testing.T) {
	t.Parallel()
	for name, withTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var certificates []tls.Certificate
			if withTLS {
				certificates = testCertificates()
			}
			tick := time.NewTicker(realTick)
			defer tick.Stop()
			e := newEdge(t, certificates, func(c *Config) { guests(c, nil) }, tick.C)
			conn := e.dial(t)
			if withTLS {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			}
			a := e.ask(t, conn, request("GET /v1/ws?room=a HTTP/1.1"))
			if got := a.next(t) + a.next(t); got != `welcome guest{"subscribed":{"room":"a","position":"@10"}}` {
				t.Fatal(got)
			}
			pad := strings.Repeat("x", 64<<10)
			for range 500 { // more than any kernel holds
				e.bus.append("a", pad)
			}
			s := e.gw.roster.all()[0]
			// If the test stands still, the socket may be gone for being full.
			e.eventually(t, "the socket is full", func() bool { return e.gw.Connections() == 0 || full(s) })
			if _, err := conn.Write([]byte(closeFrame(1000, ""))); err != nil && e.gw.Connections() > 0 {
				t.Fatal(err)
			}
			e.eventually(t, "the socket is gone", func() bool { return e.gw.Connections()+e.gw.cfg.Hub.Rooms() == 0 })
		})
	}
}

// eventually waits for something that the kernel's time decides.
func (e *edge) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for left := realPatience; !is(); left -= realTick {
		if left < 0 {
			t.Fatalf("not within %s: %s", realPatience, what)
		}
		<-e.tick
	}
}
