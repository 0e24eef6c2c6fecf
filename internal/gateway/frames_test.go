package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

func TestFirstFrames(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		p := w.dial("?room=a&room=eph:b&room=*", "")
		p.want("welcome guest",
			`{"subscribed":{"room":"a","position":"@10"}}`,
			`{"subscribed":{"room":"eph:b"}}`,
			`{"error":{"code":"INVALID_ARGUMENT","reason":"INVALID_ROOM","message":…,"field":"subscribe.room"}}`)
		w.bus.append("a", "hello")
		w.bus.append("eph:b", "there")
		p.want("m a hello", "m eph:b there")
	})
}

func TestWelcomeSaysWhoIsWho(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("", token(t, "ann", time.Minute))
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		id := strings.Split(string(data), `"`)[5]
		want := `{"welcome":{"connection":"` + id + `","user":"ann","node":"n1","pingMs":25000,"version":"v1"}}`
		if string(data) != want || len(id) != 16 {
			t.Errorf("got %s, want %s with 16 characters of connection", data, want)
		}
	})
}

func TestRoomOrder(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		w.bus.append("a", "before")
		p := w.guest("")
		p.ask(`{"id":1,"subscribe":{"room":"a"}}`, `{"id":1,"subscribed":{"room":"a","position":"@11"}}`)
		w.bus.append("a", "one")
		w.bus.append("a", "two")
		p.want("m a one", "m a two")

		// Subscribing again moves the place.
		p.ask(`{"id":2,"subscribe":{"room":"a","after":"`+at(11).String()+`"}}`, `{"id":2,"subscribed":{"room":"a","position":"@11"}}`)
		p.want("m a one replayed", "m a two replayed")
		w.bus.append("a", "three")
		p.want("m a three")

		// Nothing of the room follows its unsubscribed.
		w.bus.append("a", "four")
		p.want("m a four")
		p.ask(`{"id":3,"unsubscribe":{"room":"a"}}`, `{"id":3,"unsubscribed":{"room":"a"}}`)
		w.bus.append("a", "five")
		p.ask(`{"id":4294967295,"ping":{}}`, `{"id":4294967295,"pong":{}}`)
	})
}

// TestUnsubscribedIsLast has messages waiting for a peer that does not read while it
// leaves the room.
func TestUnsubscribedIsLast(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		for i := range 300 {
			w.bus.append("a", fmt.Sprint(i))
		}
		p.send(`{"id":1,"unsubscribe":{"room":"a"}}`)
		for i := 0; ; i++ {
			got, err := p.next()
			if err != nil {
				t.Fatal(err)
			}
			if got == `{"id":1,"unsubscribed":{"room":"a"}}` {
				break
			}
			if want := fmt.Sprint("m a ", i); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		p.ask(`{"id":2,"ping":{}}`, `{"id":2,"pong":{}}`)
	})
}

func TestResume(t *testing.T) {
	t.Parallel()
	const subscribed = `{"id":1,"subscribed":{"room":"%s","position":"@%d"}}`
	tests := map[string]struct {
		room  string
		after string
		want  []string
	}{
		"from the log": {"a", at(11).String(), []string{fmt.Sprintf(subscribed, "a", 11), "m a 1 replayed", "m a 2 replayed"}},
		"from the end": {"a", at(13).String(), []string{fmt.Sprintf(subscribed, "a", 13)}},
		"another log": {"a", "x.11.i", []string{
			`{"id":1,"subscribed":{"room":"a","position":"x.11.i"}}`,
			`{"gap":{"room":"a","after":"x.11.i","reason":"RESET","position":"@13"}}`,
		}},
		"no position": {"a", "yesterday", []string{
			`{"id":1,"error":{"code":"INVALID_ARGUMENT","reason":"INVALID_POSITION","message":…,"field":"subscribe.after"}}`,
		}},
		"ephemeral": {"eph:a", "yesterday", []string{
			`{"id":1,"subscribed":{"room":"eph:a"}}`,
			`{"gap":{"room":"eph:a","reason":"RESET"}}`,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				for i := range 3 {
					w.bus.append("a", fmt.Sprint(i))
				}
				p := w.guest("")
				p.send(fmt.Sprintf(`{"id":1,"subscribe":{"room":%q,"after":%q}}`, test.room, test.after))
				p.want(test.want...)
				p.ask(`{"id":2,"ping":{}}`, `{"id":2,"pong":{}}`)
			})
		})
	}
}

// TestRefusals has requests that are refused while the socket goes on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	refused := func(code, reason, field string) string {
		if field != "" {
			field = `,"field":"` + field + `"`
		}
		return fmt.Sprintf(`{"id":7,"error":{"code":%q,"reason":%q,"message":…%s}}`, code, reason, field)
	}
	invalid := func(reason, field string) string { return refused("INVALID_ARGUMENT", reason, field) }
	long := strings.Repeat("x", 201)
	tests := map[string]struct{ request, answer string }{
		"no room":             {`{"id":7,"subscribe":{}}`, invalid("INVALID_ROOM", "subscribe.room")},
		"room too long":       {`{"id":7,"subscribe":{"room":"` + long + `"}}`, invalid("INVALID_ROOM", "subscribe.room")},
		"room with *":         {`{"id":7,"subscribe":{"room":"a*"}}`, invalid("INVALID_ROOM", "subscribe.room")},
		"our room":            {`{"id":7,"subscribe":{"room":"_x"}}`, invalid("INVALID_ROOM", "subscribe.room")},
		"control character":   {`{"id":7,"subscribe":{"room":"a\r\nPUB x"}}`, invalid("INVALID_ROOM", "subscribe.room")},
		"NUL":                 {`{"id":7,"unsubscribe":{"room":"\u0000"}}`, invalid("INVALID_ROOM", "unsubscribe.room")},
		"room not allowed":    {`{"id":7,"subscribe":{"room":"secret"}}`, refused("PERMISSION_DENIED", "FORBIDDEN", "")},
		"other user's room":   {`{"id":7,"subscribe":{"room":"user:bob"}}`, refused("PERMISSION_DENIED", "FORBIDDEN", "")},
		"not subscribed":      {`{"id":7,"unsubscribe":{"room":"a"}}`, refused("FAILED_PRECONDITION", "NOT_SUBSCRIBED", "")},
		"presence":            {`{"id":7,"subscribe":{"room":"a","presence":true}}`, refused("PERMISSION_DENIED", "FORBIDDEN", "")},
		"members":             {`{"id":7,"members":{"room":"a"}}`, refused("PERMISSION_DENIED", "FORBIDDEN", "")},
		"publish disabled":    {`{"id":7,"publish":{"room":"a","text":"x"}}`, refused("PERMISSION_DENIED", "CLIENT_PUBLISH_DISABLED", "")},
		"publish not allowed": {`{"id":7,"publish":{"room":"chat:9","text":"x"}}`, refused("PERMISSION_DENIED", "FORBIDDEN", "")},
		"publish nowhere":     {`{"id":7,"publish":{"text":"x"}}`, invalid("INVALID_ROOM", "publish.room")},
		"publish too much": {
			`{"id":7,"publish":{"room":"chat:1","text":"` + strings.Repeat("x", 64<<10+1) + `"}}`,
			invalid("PAYLOAD_TOO_LARGE", "publish.payload"),
		},
		"publish short ttl":  {`{"id":7,"publish":{"room":"chat:1","ttl":"0.5s"}}`, invalid("INVALID_TTL", "publish.ttl")},
		"publish long event": {`{"id":7,"publish":{"room":"chat:1","event":"` + long + `"}}`, invalid("INVALID_EVENT", "publish.event")},
		"publish bad key":    {`{"id":7,"publish":{"room":"chat:1","messageId":"\n"}}`, invalid("INVALID_MESSAGE_ID", "publish.messageId")},
		"bad refresh":        {`{"id":7,"auth":{"token":"x"}}`, refused("UNAUTHENTICATED", "TOKEN_INVALID", "")},
		"empty refresh":      {`{"id":7,"auth":{"token":""}}`, refused("UNAUTHENTICATED", "TOKEN_MISSING", "")},
		"no request":         {`{"id":7}`, invalid("INVALID_FRAME", "frame")},
		"two requests":       {`{"id":7,"ping":{},"members":{}}`, invalid("INVALID_FRAME", "members")},
		"unknown request":    {`{"id":7,"dance":{}}`, invalid("INVALID_FRAME", "dance")},
		"__proto__":          {`{"id":7,"__proto__":{}}`, invalid("INVALID_FRAME", "__proto__")},
		"wrong type":         {`{"id":7,"subscribe":{"room":1}}`, invalid("INVALID_FRAME", "subscribe.room")},
		"a name twice":       {`{"id":7,"ping":{},"ping":{}}`, invalid("INVALID_FRAME", "ping")},
		"text after it":      {`{"id":7,"ping":{}} {}`, invalid("INVALID_FRAME", "frame")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(w *world) {
				t := w.t
				p := w.dial("", token(t, "ann", time.Minute, "a", "chat:1"))
				p.want("welcome ann")
				p.ask(test.request, test.answer)
				p.ask(`{"id":8,"ping":{}}`, `{"id":8,"pong":{}}`)
			})
		})
	}
}

func TestTooManyRooms(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		p := w.guest("")
		for i := range maxRooms {
			if i%100 == 0 {
				elapse(time.Second) // within the budget of frames
			}
			p.ask(fmt.Sprintf(`{"subscribe":{"room":"r%d"}}`, i), fmt.Sprintf(`{"subscribed":{"room":"r%d","position":"@10"}}`, i))
		}
		p.ask(`{"id":1,"subscribe":{"room":"x"}}`, `{"id":1,"error":{"code":"RESOURCE_EXHAUSTED","reason":"TOO_MANY_ROOMS","message":…}}`)
		p.ask(`{"id":2,"subscribe":{"room":"r5"}}`, `{"id":2,"subscribed":{"room":"r5","position":"@10"}}`)
		p.ask(`{"id":3,"unsubscribe":{"room":"r5"}}`, `{"id":3,"unsubscribed":{"room":"r5"}}`)
		p.ask(`{"id":4,"subscribe":{"room":"x"}}`, `{"id":4,"subscribed":{"room":"x","position":"@10"}}`)
	})
}

func TestBadRequestsInARow(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		p := w.guest("")
		const bad = `{"error":{"code":"INVALID_ARGUMENT","reason":"INVALID_FRAME","message":…,"field":"frame"}}`
		p.ask(`{`, bad)
		p.ask(`[]`, bad)
		p.ask(`{"id":1,"ping":{}}`, `{"id":1,"pong":{}}`) // breaks the row
		p.ask(`"x"`, bad)
		p.ask(``, bad)
		p.ask("\ufeff{}", bad)
		p.wantClose(4400, "BAD_REQUESTS")
		w.wantCloses(map[string]int{"4400": 1})
	})
}

func TestSocketPublish(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("?room=chat:1", token(t, "ann", time.Minute, "chat:*"))
		p.want("welcome ann", `{"subscribed":{"room":"chat:1","position":"@10"}}`)
		want := map[string]bool{}
		for i := range 20 {
			p.send(fmt.Sprintf(`{"id":%d,"publish":{"room":"chat:1","text":"%d","messageId":"k%d"}}`, i+1, i, i))
			want[fmt.Sprintf(`{"id":%d,"published":{"id":"@%d","stored":true}}`, i+1, start+1+i)] = true
		}
		for next := 0; next < 20 || len(want) > 0; {
			got, err := p.next()
			switch {
			case err != nil:
				t.Fatal(err)
			case want[got]:
				delete(want, got)
			case got == fmt.Sprint("m chat:1 ", next):
				next++
			default:
				t.Fatalf("got %s; message %d is next and %d answers are missing", got, next, len(want))
			}
		}
	})
}

// TestPublishOutlivesTheSocket: what was accepted is stored, and its answer to nobody
// does no harm.
func TestPublishOutlivesTheSocket(t *testing.T) {
	t.Parallel()
	held := func(c *Config, b *bus) {
		guests(c, b)
		b.acks = make(chan struct{})
	}
	inBubble(t, held, func(w *world) {
		t := w.t
		p := w.guest("")
		p.send(`{"id":1,"publish":{"room":"chat:1","text":"x"}}`)
		elapse(time.Second)
		_ = p.ws.NetConn().Close()
		elapse(time.Second)
		if n := w.gw.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		close(w.bus.acks)
		elapse(0)
		if n := len(w.bus.logs["chat:1"]); n != 1 {
			t.Errorf("%d messages were stored, want 1", n)
		}
	})
}

// TestJoinFails has a bus that is away: the socket stays.
func TestJoinFails(t *testing.T) {
	t.Parallel()
	silent := func(c *Config, b *bus) {
		guests(c, b)
		b.silent = true
	}
	inBubble(t, silent, func(w *world) {
		t := w.t
		p := w.guest("")
		began := time.Now()
		p.ask(`{"id":1,"subscribe":{"room":"a"}}`,
			`{"id":1,"error":{"code":"UNAVAILABLE","reason":"BUS_UNAVAILABLE","message":…,"retryMs":1000}}`)
		if waited := time.Since(began); waited != requestTimeout {
			t.Errorf("refused after %s, want %s", waited, requestTimeout)
		}
		p.ask(`{"id":2,"unsubscribe":{"room":"a"}}`, `{"id":2,"error":{"code":"FAILED_PRECONDITION","reason":"NOT_SUBSCRIBED","message":…}}`)
	})
}

func TestInternalErrorsAreHidden(t *testing.T) {
	t.Parallel()
	broken := func(c *Config, b *bus) {
		guests(c, b)
		c.NewSequence = func() Sequence { return failing{errors.New("disk on fire")} }
	}
	inBubble(t, broken, func(w *world) {
		t := w.t
		p := w.guest("")
		p.ask(`{"id":1,"publish":{"room":"chat:1"}}`, `{"id":1,"error":{"code":"INTERNAL","reason":"INTERNAL","message":…}}`)
		if !strings.Contains(w.logs.String(), "disk on fire") {
			t.Error("the cause is not in the log")
		}
	})
}

// failing refuses every publication.
type failing struct{ err error }

func (f failing) Publish(_ context.Context, _ *room.Publication, done func(room.Ack, error)) {
	done(room.Ack{}, f.err)
}
