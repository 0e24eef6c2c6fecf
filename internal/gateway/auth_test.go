package gateway

import (
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
)

func authFrame(token string) string { return `{"id":1,"auth":{"token":"` + token + `"}}` }

const authMissing = `{"id":9,"error":{"code":"UNAUTHENTICATED","reason":"TOKEN_MISSING","message":…}}`

// authenticated is the answer to authFrame with a token that lives so long.
func authenticated(life time.Duration) string {
	return `{"id":1,"authenticated":{"expires":"` + time.Now().Add(life).UTC().Format(time.RFC3339) + `"}}`
}

func TestFirstFrameBringsTheToken(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("?room=a&room=b", "")
		p.ask(`{"id":9,"ping":{}}`, authMissing)
		p.ask(`{"id":9,"subscribe":{"room":"a"}}`, authMissing)
		p.send(authFrame(token(t, "ann", time.Minute, "a")))
		p.want("welcome ann", authenticated(time.Minute),
			`{"subscribed":{"room":"a","position":"@10"}}`,
			`{"error":{"code":"PERMISSION_DENIED","reason":"FORBIDDEN","message":…}}`)
		elapse(authTimeout)
		p.send(authFrame(token(t, "ann", time.Minute, "a")))
		p.want(authenticated(time.Minute)) // the URL's rooms only once
		p.ask(`{"id":2,"ping":{}}`, `{"id":2,"pong":{}}`)
	})
}

func TestFirstTokenIsBad(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		life   time.Duration
		change func(string) string
		reason string
	}{
		"missing": {time.Minute, func(string) string { return "" }, "TOKEN_MISSING"},
		"cut":     {time.Minute, func(s string) string { return s[:len(s)-4] }, "TOKEN_INVALID"},
		"expired": {-auth.Leeway, func(s string) string { return s }, "TOKEN_EXPIRED"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(w *world) {
				t := w.t
				p := w.dial("?room=a", "")
				p.send(authFrame(test.change(token(t, "ann", test.life, "a"))))
				p.wantClose(4401, test.reason)
				w.wantCloses(map[string]int{"4401": 1})
			})
		})
	}
}

// TestGuestBecomesUser: with the token come its rooms only, and its user.
func TestGuestBecomesUser(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		p := w.guest("?room=a&room=b")
		p.want(`{"subscribed":{"room":"a","position":"@10"}}`, `{"subscribed":{"room":"b","position":"@10"}}`)
		p.send(authFrame(token(t, "ann", time.Minute, "b")))
		p.want(authenticated(time.Minute), `{"unsubscribed":{"room":"a"}}`)
		w.bus.append("a", "secret")
		w.bus.append("b", "hello")
		p.want("m b hello")
		p.ask(`{"id":2,"subscribe":{"room":"a"}}`, `{"id":2,"error":{"code":"PERMISSION_DENIED","reason":"FORBIDDEN","message":…}}`)
		p.ask(authFrame(token(t, "bob", time.Minute, "b")),
			`{"id":1,"error":{"code":"PERMISSION_DENIED","reason":"OTHER_USER","message":…}}`)
		p.ask(authFrame(token(t, "ann", time.Hour, "c")), authenticated(time.Hour))
		p.want(`{"unsubscribed":{"room":"b"}}`)
	})
}

func TestOwnRoomNeedsNoGrant(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("?room=user:ann", token(t, "ann", time.Minute))
		p.want("welcome ann", `{"subscribed":{"room":"user:ann","position":"@10"}}`)
	})
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("", token(t, "ann", time.Minute))
		p.want("welcome ann")
		began := time.Now()
		p.wantClose(4501, "TOKEN_EXPIRED")
		if lived := time.Since(began); lived != time.Minute+auth.Leeway {
			t.Errorf("closed after %s, want exp and leeway: 1m30s", lived)
		}
	})
}

func TestRefreshKeepsTheSocket(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("", token(t, "ann", time.Minute))
		p.want("welcome ann")
		began := time.Now()
		elapse(20 * time.Second) // before the first ping, which nobody would answer
		p.ask(authFrame(token(t, "ann", 5*time.Minute)), authenticated(5*time.Minute))
		p.wantClose(4501, "TOKEN_EXPIRED")
		if lived := time.Since(began); lived != 5*time.Minute+20*time.Second+auth.Leeway {
			t.Errorf("closed after %s, want 5m50s", lived)
		}
	})
}

// TestBusySocketExpires: the clocks are looked at while the writer is never idle.
func TestBusySocketExpires(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("?room=a", token(t, "ann", time.Second, "a"))
		p.want("welcome ann", `{"subscribed":{"room":"a","position":"@10"}}`)
		for range 20_000 {
			w.bus.append("a", "x")
		}
		read := 0
		for ; ; read++ {
			if _, err := p.next(); err != nil {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		if most := int((time.Second+auth.Leeway+closeGrace)/(10*time.Millisecond)) + 100; read > most {
			t.Errorf("read %d messages, want at most %d: what it reads until exp, leeway and a second, and its buffer", read, most)
		}
		w.wantCloses(map[string]int{"4501": 1})
	})
}
