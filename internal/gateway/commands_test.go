package gateway

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
)

// connection reads a welcome and returns the socket's id.
func (w *world) connection(user string) string {
	w.t.Helper()
	list := w.sessions(user)
	if len(list) != 1 {
		w.t.Fatalf("%q has %d sockets, want one", user, len(list))
	}
	return list[0].Connection
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		target func(w *world) Target
		closed []string
	}{
		"user":               {func(*world) Target { return Target{User: "ann"} }, []string{"ann", "ann"}},
		"nobody":             {func(*world) Target { return Target{User: "eve"} }, nil},
		"connection":         {func(w *world) Target { return Target{Connection: w.connection("bob")} }, []string{"bob"}},
		"unknown connection": {func(*world) Target { return Target{Connection: "x"} }, nil},
		"room":               {func(*world) Target { return Target{Room: "a"} }, []string{"ann", "bob"}},
		"empty room":         {func(*world) Target { return Target{Room: "c"} }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(w *world) {
				t := w.t
				peers := []*peer{}
				users := []string{"ann", "ann", "bob"}
				for i, name := range []string{"a", "b", "a"} {
					p := w.dial("?room="+name, token(t, users[i], time.Hour, name))
					p.want("welcome "+users[i], `{"subscribed":{"room":"`+name+`","position":"@10"}}`)
					peers = append(peers, p)
				}
				target := test.target(w)
				if got := w.gw.Disconnect(target, "banned"); got != len(test.closed) {
					t.Errorf("%d sockets closed, want %d", got, len(test.closed))
				}
				if got := w.gw.Disconnect(target, "again"); got != 0 {
					t.Errorf("%d sockets closed twice", got)
				}
				w.bus.append("a", "late")
				w.bus.append("b", "late")
				for _, user := range test.closed {
					for i, p := range peers {
						if p != nil && users[i] == user && (target.Room == "" || i != 1) {
							p.wantClose(codeNotAllowed, "DISCONNECTED banned") // and no message before it
							peers[i] = nil
							break
						}
					}
				}
				for i, p := range peers {
					if p != nil {
						p.want([]string{"m a late", "m b late", "m a late"}[i])
					}
				}
				synctest.Wait()
				if got := int(w.closes("4403")); got != len(test.closed) {
					t.Errorf("%d closes are counted, want %d", got, len(test.closed))
				}
			})
		})
	}
}

// TestServerSubscribes: a room that the token does not allow, which stays when the
// token is refreshed, until it is taken away or left.
func TestServerSubscribes(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		subscribe := func(name room.Name, want int) {
			t.Helper()
			if got := w.gw.Subscribe(t.Context(), time.Now().Add(time.Second), "ann", name); got != want {
				t.Errorf("%d sockets subscribed to %s, want %d", got, name, want)
			}
		}
		p := w.dial("?room=a", token(t, "ann", time.Hour, "a"))
		p.want("welcome ann", `{"subscribed":{"room":"a","position":"@10"}}`)
		other := w.dial("?room=x", token(t, "bob", time.Hour, "x"))
		other.want("welcome bob", `{"subscribed":{"room":"x","position":"@10"}}`)
		w.bus.append("x", "before")
		other.want("m x before")
		subscribe("x", 1)
		p.want(`{"subscribed":{"room":"x","position":"@11"}}`)
		subscribe("x", 0)
		subscribe("a", 0) // it has it already; from now on it stays
		w.bus.append("x", "after")
		p.want("m x after")
		other.want("m x after")
		p.ask(authFrame(token(t, "ann", time.Minute)), authenticated(time.Minute)) // allows neither
		w.bus.append("x", "stays")
		w.bus.append("a", "stays")
		p.want("m x stays", "m a stays")
		p.ask(`{"id":3,"subscribe":{"room":"x"}}`, `{"id":3,"error":{"code":"PERMISSION_DENIED","reason":"FORBIDDEN","message":…}}`)
		if got := w.gw.Unsubscribe("ann", "x"); got != 1 {
			t.Errorf("%d sockets unsubscribed, want 1", got)
		}
		if got := w.gw.Unsubscribe("ann", "x"); got != 0 {
			t.Errorf("%d sockets unsubscribed twice", got)
		}
		p.want(`{"unsubscribed":{"room":"x"}}`)
		p.ask(`{"id":4,"unsubscribe":{"room":"a"}}`, `{"id":4,"unsubscribed":{"room":"a"}}`)
		w.bus.append("x", "gone")
		w.bus.append("a", "gone")
		p.ask(`{"id":5,"ping":{}}`, `{"id":5,"pong":{}}`)
		p.ask(authFrame(token(t, "ann", time.Hour, "a")), authenticated(time.Hour))
		p.ask(`{"id":6,"subscribe":{"room":"a"}}`, `{"id":6,"subscribed":{"room":"a","position":"@12"}}`)
		p.ask(authFrame(token(t, "ann", time.Hour)), authenticated(time.Hour))
		p.want(`{"unsubscribed":{"room":"a"}}`) // the server's wish was forgotten when it left
	})
}

// TestServerSubscribesInVain: a room whose log does not answer, and a socket that has
// too many.
func TestServerSubscribesInVain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(_ *Config, b *bus) { b.silent = true }, func(w *world) {
		p := w.dial("", token(w.t, "ann", time.Hour))
		p.want("welcome ann")
		began := time.Now()
		if got := w.gw.Subscribe(w.t.Context(), began.Add(time.Second), "ann", "x"); got != 0 || time.Since(began) != time.Second {
			w.t.Errorf("%d sockets subscribed after %s, want none after a second", got, time.Since(began))
		}
	})
	inBubble(t, nil, func(w *world) {
		p := w.dial("", token(w.t, "ann", time.Hour))
		p.want("welcome ann")
		for i := range maxRooms + 1 {
			got := w.gw.Subscribe(w.t.Context(), time.Now().Add(time.Second), "ann", room.Name(fmt.Sprint("r", i)))
			if want := 1; (i < maxRooms) != (got == want) {
				w.t.Fatalf("room %d: %d sockets subscribed", i, got)
			}
			if i < maxRooms {
				p.want(fmt.Sprintf(`{"subscribed":{"room":"r%d","position":"@10"}}`, i))
			}
		}
	})
}

// TestRoomsAreBoundedAtOnce: a room that the server subscribes while the client waits
// for its last one counts.
func TestRoomsAreBoundedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(_ *Config, b *bus) { b.late = "late" }, func(w *world) {
		p := w.dial("", token(w.t, "ann", time.Hour, "late"))
		p.want("welcome ann")
		subscribe := func(name string) {
			w.t.Helper()
			if got := w.gw.Subscribe(w.t.Context(), time.Now().Add(time.Second), "ann", room.Name(name)); got != 1 {
				w.t.Fatalf("room %s: %d sockets subscribed", name, got)
			}
			p.want(fmt.Sprintf(`{"subscribed":{"room":%q,"position":"@10"}}`, name))
		}
		for i := range maxRooms - 1 {
			subscribe(fmt.Sprint("r", i))
		}
		p.send(`{"id":1,"subscribe":{"room":"late"}}`)
		synctest.Wait()
		subscribe("the last")
		var late *hub.Room
		w.bus.set(func() { late = w.bus.rooms["late"] })
		late.Opened(at(start))
		p.want(`{"id":1,"error":{"code":"RESOURCE_EXHAUSTED","reason":"TOO_MANY_ROOMS","message":…}}`)
	})
}

// TestServerSubscribesClosing: a socket that is closing gets nothing more, so it is not
// counted.
func TestServerSubscribesClosing(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		p := w.dial("", token(w.t, "ann", time.Hour))
		p.want("welcome ann")
		p.raw(frame(fin|binaryOp, "")) // it does not read why it is closed
		synctest.Wait()
		if got := w.gw.Subscribe(w.t.Context(), time.Now().Add(time.Second), "ann", "x"); got != 0 || w.hub.Rooms() != 0 {
			w.t.Errorf("%d sockets subscribed, %d rooms; want none: it is closing", got, w.hub.Rooms())
		}
		p.wantClose(codeOpcode, "BINARY_FRAME")
	})
}

// TestServerSubscribesWhileRefreshing: what the server wants while a newer token takes
// rooms away stays, or is subscribed anew.
func TestServerSubscribesWhileRefreshing(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		const rooms = 20
		name := func(i int) room.Name { return room.Name(fmt.Sprintf("r%02d", i)) }
		p := w.dial("", token(t, "ann", time.Hour, "r*"))
		p.want("welcome ann")
		for i := range rooms {
			p.ask(fmt.Sprintf(`{"subscribe":{"room":%q}}`, name(i)), fmt.Sprintf(`{"subscribed":{"room":%q,"position":"@10"}}`, name(i)))
		}
		s := w.gw.roster.of("ann")[0]
		go func() { // what it gets is of no interest
			for err := error(nil); err == nil; {
				_, err = p.next()
			}
		}()
		stop := make(chan struct{})
		for range 3 { // so that the lock is always waited for, which makes it go round
			go func() {
				for s.rooms.mu.Lock(); ; s.rooms.mu.Lock() {
					for range 5000 {
						runtime.Gosched()
					}
					s.rooms.mu.Unlock()
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
		}
		p.send(authFrame(token(t, "ann", time.Minute)))
		for i := 1; i < rooms; i += 2 {
			for in := true; in; {
				in, _ = s.rooms.has(name(i - 1))
			}
			w.gw.Subscribe(t.Context(), time.Now().Add(time.Second), "ann", name(i))
		}
		close(stop)
		synctest.Wait()
		if _, count := s.rooms.has(""); count != rooms/2 {
			t.Errorf("the socket is in %d rooms, want the %d that the server wants", count, rooms/2)
		}
	})
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		text := token(t, "ann", time.Hour, "a")
		var peers []*peer
		for range 3 {
			p := w.dial("?room=a", text)
			p.want("welcome ann", `{"subscribed":{"room":"a","position":"@10"}}`)
			peers = append(peers, p)
		}
		bob := w.dial("?room=a", token(t, "bob", time.Hour, "a"))
		bob.want("welcome bob", `{"subscribed":{"room":"a","position":"@10"}}`)
		all := []room.Revocation{{User: "ann", Before: room.AnyTime, Until: time.Now().Add(time.Hour)}}
		for range 2 { // a node may learn it by two ways
			if got := w.gw.Revoke(all); got != 3 {
				t.Errorf("%d sockets closed, want 3", got)
			}
		}
		w.bus.append("a", "late")
		bob.want("m a late")
		for _, p := range peers {
			p.wantClose(codeToken, "TOKEN_REVOKED")
		}
		if got := w.tryDial(text); got != http.StatusUnauthorized {
			t.Errorf("a socket with the token: status %d, want 401", got)
		}
		late := w.dial("", "")
		late.send(authFrame(text))
		late.wantClose(codeToken, "TOKEN_REVOKED")
		bob.ask(authFrame(text), `{"id":1,"error":{"code":"UNAUTHENTICATED","reason":"TOKEN_REVOKED","message":…}}`)
		w.wantSessions("", Session{User: "bob", Rooms: []room.Name{"a"}})
	})
}

// tryDial shows a token that is to be refused and returns the status.
func (w *world) tryDial(token string) int {
	w.t.Helper()
	dialer := websocket.Dialer{NetDialContext: w.listener.dial}
	_, answer, err := dialer.DialContext(w.t.Context(), "ws://node/v1/ws", http.Header{"Authorization": {"Bearer " + token}})
	if err == nil || answer == nil {
		w.t.Fatalf("dial: %v, %v; want it to be refused", answer, err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// TestRevokeByID: only the sockets of that token, and a socket by its newest token.
func TestRevokeByID(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		named := func(id string) string {
			text, err := auth.Mint(tokenKey(), auth.Claims{User: "ann", ID: id, Expires: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		var peers []*peer
		for _, id := range []string{"t1", "t2", "t1", ""} {
			p := w.dial("", named(id))
			p.want("welcome ann")
			peers = append(peers, p)
		}
		peers[2].ask(authFrame(named("t3")), authenticated(time.Hour))
		list := []room.Revocation{
			{TokenID: "t0", Before: room.AnyTime, Until: time.Now().Add(time.Hour)},
			{TokenID: "t1", Before: room.AnyTime, Until: time.Now().Add(time.Hour)},
		}
		if got := w.gw.Revoke(list); got != 1 {
			t.Errorf("%d sockets closed, want the first", got)
		}
		peers[0].wantClose(codeToken, "TOKEN_REVOKED")
		for _, p := range peers[1:] {
			p.ask(`{"id":2,"ping":{}}`, `{"id":2,"pong":{}}`)
		}
	})
}

// lateVerifier revokes a token right after it was found good: the socket is not open
// yet then.
type lateVerifier struct {
	*auth.Verifier
	gw *Gateway
}

func (v *lateVerifier) Verify(token string, now time.Time) (*auth.Caller, error) {
	caller, err := v.Verifier.Verify(token, now)
	if err == nil {
		v.gw.Revoke([]room.Revocation{{User: caller.User, Before: room.AnyTime, Until: now.Add(time.Hour)}})
	}
	return caller, err
}

func TestRevokedWhileConnecting(t *testing.T) {
	t.Parallel()
	late := &lateVerifier{}
	change := func(c *Config, _ *bus) {
		late.Verifier, _ = c.Verifier.(*auth.Verifier)
		c.Verifier = late
	}
	inBubble(t, change, func(w *world) {
		late.gw = w.gw
		p := w.dial("?room=a", token(w.t, "ann", time.Hour, "a"))
		p.want("welcome ann")
		p.wantClose(codeToken, "TOKEN_REVOKED")
		first := w.dial("?room=a", "")
		first.send(authFrame(token(w.t, "bob", time.Hour, "a")))
		first.want("welcome bob")
		first.wantClose(codeToken, "TOKEN_REVOKED")
		w.wantCloses(map[string]int{"4401": 2})
	})
}

// TestTallyIsBounded: revocations without end do not take memory without end.
func TestTallyIsBounded(t *testing.T) {
	t.Parallel()
	var counts tally
	for i := range 10 * maxTallies {
		counts.addLocked(tokens{user: "ann", before: int64(i)}, 1)
	}
	if len(counts.closed) != maxTallies || len(counts.order) != maxTallies {
		t.Errorf("%d counts of %d are kept, want %d", len(counts.closed), len(counts.order), maxTallies)
	}
	if got := counts.addLocked(tokens{user: "ann", before: 10*maxTallies - 1}, 2); got != 3 {
		t.Errorf("the newest counts %d, want 3", got)
	}
}

// TestSessionsAfter: pages that follow each other have every socket once, in order.
func TestSessionsAfter(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		for i := range 25 {
			user := fmt.Sprint("u", i%7)
			p := w.dial([]string{"", "?room=a"}[i%2], token(t, user, time.Hour, "a"))
			p.want("welcome " + user)
			if i%2 == 1 {
				p.want(`{"subscribed":{"room":"a","position":"@10"}}`)
			}
		}
		for _, in := range []room.Name{"", "a"} {
			var want, got []string
			for _, s := range w.sessions("") {
				if in == "" || len(s.Rooms) == 1 {
					want = append(want, s.User+" "+s.Connection)
				}
			}
			user, connection := "", ""
			for more := true; more; {
				var page []Session
				page, more = w.gw.SessionsAfter(user, connection, "", in, 4)
				if more && len(page) != 4 {
					t.Fatalf("a page of %d that is not the last", len(page))
				}
				for _, s := range page {
					got = append(got, s.User+" "+s.Connection)
					user, connection = s.User, s.Connection
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("room %q: pages (-want +got):\n%s", in, diff)
			}
		}
	})
}
