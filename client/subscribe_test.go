package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

func orders(after string) []RoomConfig { return []RoomConfig{{Room: "orders", After: after}} }

func TestDelivery(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		frame string
		want  Delivery
	}{
		"json keeps its digits": {
			frame: `{"message":{"room":"orders","id":"e.1.a","event":"paid","json":{"n":12345678901234567890.10},"time":"2026-11-23T10:00:00.5Z","replayed":true}}`,
			want: Delivery{
				Room: "orders", ID: "e.1.a", Event: "paid", Body: RawJSON([]byte(`{"n":12345678901234567890.10}`)),
				Time: time.Date(2026, 11, 23, 10, 0, 0, 5e8, time.UTC), Replayed: true,
			},
		},
		"json null": {
			frame: `{"message":{"room":"orders","id":"e.1.a","json":null}}`,
			want:  Delivery{Room: "orders", ID: "e.1.a", Body: RawJSON([]byte("null"))},
		},
		"text": {
			frame: `{"message":{"room":"orders","id":"e.1.a","text":"grüß\ngott"}}`,
			want:  Delivery{Room: "orders", ID: "e.1.a", Body: Text("grüß\ngott")},
		},
		"empty text": {
			frame: `{"message":{"room":"orders","id":"e.1.a","text":""}}`,
			want:  Delivery{Room: "orders", ID: "e.1.a", Body: Text("")},
		},
		"data": {
			frame: `{"message":{"room":"orders","id":"e.1.a","data":"AP8="}}`,
			want:  Delivery{Room: "orders", ID: "e.1.a", Body: Data([]byte{0, 255})},
		},
		"empty data": {
			frame: `{"message":{"room":"orders","id":"e.1.a","data":""}}`,
			want:  Delivery{Room: "orders", ID: "e.1.a", Body: Data([]byte{})},
		},
		"unknown field": {
			frame: `{"message":{"room":"orders","id":"e.1.a","text":"x","colour":"red"}}`,
			want:  Delivery{Room: "orders", ID: "e.1.a", Body: Text("x")},
		},
	}
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: orders("")})
	conn := server.welcome()
	conn.answer(conn.wantSubscribe("orders", ""), "orders", "e.0.")
	conn.send(`{"pong":{}}`, `{"tomorrow":{"room":"orders"}}`) // neither is an event
	for name, test := range tests {
		conn.send(test.frame)
		test.want.Raw = []byte(test.frame)
		got := next[Delivery](t, sub)
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(Body{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestEventsInOrder(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: orders("e.1.a")})
	conn := server.welcome()
	conn.answer(conn.wantSubscribe("orders", "e.1.a"), "orders", "e.1.a")
	conn.send(
		`{"gap":{"room":"orders","after":"e.1.a","reason":"TRUNCATED","position":"e.7."}}`,
		`{"message":{"room":"orders","id":"e.8.b"}}`,
		`{"degraded":{"reason":"BUS_UNAVAILABLE"}}`,
		`{"restored":{}}`,
		`{"subscribed":{"room":"user:ann","position":"e.9."}}`,
		`{"message":{"room":"user:ann","id":"e.9.c"}}`,
		`{"unsubscribed":{"room":"user:ann"}}`,
	)
	want := []Event{
		StateChange{State: Connected, Node: "n1", Connection: "c1", User: "ann"},
		Subscribed{Room: "orders", Position: "e.1.a"},
		Gap{Room: "orders", After: "e.1.a", Reason: GapTruncated, Position: "e.7."},
		Delivery{Room: "orders", ID: "e.8.b", Raw: []byte(`{"message":{"room":"orders","id":"e.8.b"}}`)},
		StateChange{State: Degraded, Reason: "BUS_UNAVAILABLE"},
		StateChange{State: Restored},
		Subscribed{Room: "user:ann", Position: "e.9."},
		Delivery{Room: "user:ann", ID: "e.9.c", Raw: []byte(`{"message":{"room":"user:ann","id":"e.9.c"}}`)},
		Unsubscribed{Room: "user:ann"},
	}
	for i, w := range want {
		got := nextEvent(t, sub)
		if d, ok := got.(Delivery); ok {
			d.Body = Body{}
			got = d
		}
		if diff := cmp.Diff(w, got, cmp.AllowUnexported(Body{})); diff != "" {
			t.Fatalf("event %d: (-want +got)\n%s", i, diff)
		}
	}
}

// TestResume breaks the connection and looks at where the next one resumes.
func TestResume(t *testing.T) {
	t.Parallel()
	const message = `{"message":{"room":"orders","id":"e.5.m","text":"x"}}`
	tests := map[string]struct {
		after    string
		position string // of the first subscribed
		frames   []string
		events   int // to wait for after subscribed
		want     string
	}{
		"position of an idle room": {position: "e.4.", want: "e.4."},
		"position over after":      {after: "e.1.a", position: "e.4.", want: "e.4."},
		"message":                  {position: "e.4.", frames: []string{message}, events: 1, want: "e.5.m"},
		"gap with a position": {
			position: "e.4.", want: "f.9.", events: 1,
			frames: []string{`{"gap":{"room":"orders","reason":"RESET","position":"f.9."}}`},
		},
		"gap without a position": {
			position: "e.4.", want: "e.5.m", events: 2,
			frames: []string{message, `{"gap":{"room":"orders","after":"e.5.m","reason":"TRUNCATED"}}`},
		},
		"other room": {
			position: "e.4.", want: "e.4.", events: 1,
			frames: []string{`{"message":{"room":"user:ann","id":"e.5.m"}}`},
		},
		"ephemeral": {
			position: "", want: "", events: 1,
			frames: []string{message},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newSocketServer(t)
			sub := server.subscribe(Config{Rooms: orders(test.after)})
			conn := server.welcome()
			conn.answer(conn.wantSubscribe("orders", test.after), "orders", test.position)
			next[Subscribed](t, sub)
			conn.send(test.frames...)
			for range test.events {
				nextEvent(t, sub)
			}
			conn.drop()
			lost := nextState(t, sub, Disconnected)
			if lost.Err == nil || lost.Reason == "" || lost.RetryIn > backoffBase {
				t.Errorf("got %+v, want a cause and a first wait up to %s", lost, backoffBase)
			}
			server.welcome().wantSubscribe("orders", test.want)
		})
	}
}

// TestResumeBeforeAnswer breaks the connection before the subscribe was answered.
func TestResumeBeforeAnswer(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	server.subscribe(Config{Rooms: []RoomConfig{{"a", "e.1.a"}, {"b", ""}}})
	for range 2 {
		conn := server.welcome()
		conn.wantSubscribe("a", "e.1.a")
		conn.wantSubscribe("b", "")
		conn.drop()
	}
}

func TestEphemeralRoomGetsGapAfterReconnect(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: orders("")})
	for i := range 2 {
		conn := server.welcome()
		conn.answer(conn.wantSubscribe("orders", ""), "orders", "")
		next[Subscribed](t, sub)
		if i == 0 {
			conn.drop()
			continue
		}
		want := Gap{Room: "orders", Reason: GapReset}
		if got := nextEvent(t, sub); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestRefusedSubscribe(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: []RoomConfig{{Room: "a"}, {Room: "secret"}}})
	conn := server.welcome()
	conn.answer(conn.wantSubscribe("a", ""), "a", "e.1.")
	id := conn.wantSubscribe("secret", "")
	conn.send(fmt.Sprintf(
		`{"id":%d,"error":{"code":"PERMISSION_DENIED","reason":"FORBIDDEN","message":"the token does not allow it","field":"subscribe.room"}}`, id))
	got, ok := errors.AsType[*Error](finalErrorOf(t, sub))
	want := &Error{
		Code: codes.PermissionDenied, Reason: "FORBIDDEN", Message: "the token does not allow it",
		Field: "subscribe.room", Room: "secret",
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Error{})); !ok || diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if want := `subscribe "secret": the token does not allow it (FORBIDDEN)`; got.Error() != want {
		t.Errorf("got %q, want %q", got, want)
	}
	conn.wantGoodbye()
	if _, err := sub.Next(context.Background()); !errors.Is(err, got) {
		t.Errorf("got %v, want the same error for ever", err)
	}
}

func TestRefusedSubscribeWithRetry(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	server.subscribe(Config{Rooms: orders("e.1.a")})
	conn := server.welcome()
	id := conn.wantSubscribe("orders", "e.1.a")
	conn.send(fmt.Sprintf(`{"id":%d,"error":{"code":"UNAVAILABLE","reason":"BUS_UNAVAILABLE","retryMs":20}}`, id))
	if again := conn.wantSubscribe("orders", "e.1.a"); again == id {
		t.Errorf("got the id %d again", id)
	}
}

func TestManyRoomsAreAskedForInTurn(t *testing.T) {
	t.Parallel()
	const count = 3*maxRequests + 1
	var configs []RoomConfig
	for i := range count {
		configs = append(configs, RoomConfig{Room: fmt.Sprintf("r%03d", i)})
	}
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: configs})
	conn := server.welcome()
	var open []uint32
	for i := range count {
		if i >= maxRequests { // no more until one is answered
			conn.answer(open[i-maxRequests], configs[i-maxRequests].Room, "e.1.")
		}
		open = append(open, conn.wantSubscribe(configs[i].Room, ""))
	}
	for i := range count - maxRequests {
		if got := next[Subscribed](t, sub); got.Room != configs[i].Room {
			t.Fatalf("got %q, want %q", got.Room, configs[i].Room)
		}
	}
}

func TestAddAndRemove(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: orders("")})
	conn := server.welcome()
	conn.answer(conn.wantSubscribe("orders", ""), "orders", "e.4.")
	next[Subscribed](t, sub)

	if err := sub.Add("orders", "e.1.a"); err == nil {
		t.Error("got no error for a room that is subscribed")
	}
	if err := sub.Add("chat", "e.2.b"); err != nil {
		t.Errorf("add: %v", err)
	}
	conn.answer(conn.wantSubscribe("chat", "e.2.b"), "chat", "e.2.b")

	sub.Remove("orders")
	leave := conn.receive()
	if leave.Unsubscribe == nil || leave.Unsubscribe.Room != "orders" {
		t.Fatalf("got %+v, want an unsubscribe", leave)
	}
	// What was under way is not wanted, before the answer to the unsubscribe.
	conn.send(
		`{"message":{"room":"orders","id":"e.5.m"}}`,
		fmt.Sprintf(`{"id":%d,"unsubscribed":{"room":"orders"}}`, leave.ID),
		`{"message":{"room":"chat","id":"e.6.m"}}`,
	)
	if got := next[Delivery](t, sub); got.Room != "chat" {
		t.Errorf("got a message of %q, want chat's", got.Room)
	}
	conn.drop()
	server.welcome().wantSubscribe("chat", "e.6.m")
}

func TestServerUnsubscribes(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: []RoomConfig{{Room: "a"}, {Room: "b"}}})
	conn := server.welcome()
	conn.answer(conn.wantSubscribe("a", ""), "a", "e.1.")
	conn.answer(conn.wantSubscribe("b", ""), "b", "e.1.")
	conn.send(`{"unsubscribed":{"room":"a"}}`)
	if got := next[Unsubscribed](t, sub); got.Room != "a" {
		t.Errorf("got %q, want a", got.Room)
	}
	conn.drop()
	server.welcome().wantSubscribe("b", "e.1.")
}

// TestSlowConsumer lets far more wait than the queue holds.
func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	const count = 4 * queueEvents
	server := newSocketServer(t)
	sub := server.subscribe(Config{Rooms: orders("")})
	conn := server.welcome()
	conn.answer(conn.wantSubscribe("orders", ""), "orders", "e.0.")
	next[Subscribed](t, sub)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range count {
			conn.send(fmt.Sprintf(`{"message":{"room":"orders","id":"e.%d.x","text":"%0500d"}}`, i, i))
		}
	}()
	for i := range count {
		if got, want := next[Delivery](t, sub).ID, fmt.Sprintf("e.%d.x", i); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	<-sent
}

func TestHandshakeRefusedForGood(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		want   codes.Code
	}{
		"401": {http.StatusUnauthorized, codes.Unauthenticated},
		"403": {http.StatusForbidden, codes.PermissionDenied},
		"404": {http.StatusNotFound, codes.FailedPrecondition},
		"400": {http.StatusBadRequest, codes.FailedPrecondition},
		"200": {http.StatusOK, codes.FailedPrecondition},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newSocketServer(t)
			server.refuseWith(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "because", test.status)
			})
			sub := server.subscribe(Config{Token: "bad", Rooms: orders("")})
			err := finalErrorOf(t, sub)
			refused, ok := errors.AsType[*Error](err)
			if !ok || refused.Code != test.want {
				t.Errorf("got %v, want code %s", err, test.want)
			}
			if diff := cmp.Diff([]string{"bad"}, server.seenTokens()); diff != "" {
				t.Errorf("handshakes: (-want +got)\n%s", diff)
			}
		})
	}
}

func TestTokenSource(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tokens []string // of the source, the last again and again
		want   []string // presented
		ok     bool
	}{
		"another token": {tokens: []string{"old", "good"}, want: []string{"old", "good"}, ok: true},
		"same token":    {tokens: []string{"old"}, want: []string{"old"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newSocketServer(t)
			server.refuseWith(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "Bearer old" {
					server.refuseWith(nil)
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			calls := 0
			sub := server.subscribe(Config{TokenSource: func(context.Context) (string, error) {
				calls++
				return test.tokens[min(calls, len(test.tokens))-1], nil
			}})
			if test.ok {
				server.welcome()
				nextState(t, sub, Connected)
			} else if err := finalErrorOf(t, sub); !isCode(err, codes.Unauthenticated) {
				t.Errorf("got %v, want UNAUTHENTICATED", err)
			}
			if diff := cmp.Diff(test.want, server.seenTokens()); diff != "" {
				t.Errorf("tokens: (-want +got)\n%s", diff)
			}
		})
	}
}

func isCode(err error, code codes.Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

func TestCloseCodesThatStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code   int
		reason string
	}{
		"asked for":       {1000, ""},
		"protocol fault":  {1002, "bad frame"},
		"repeated faults": {4400, "bad_request"},
		"bad token":       {4401, "token_revoked"},
		"not allowed":     {4403, "origin"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newSocketServer(t)
			sub := server.subscribe(Config{Token: "t"})
			server.welcome().close(test.code, test.reason)
			closed, ok := errors.AsType[*CloseError](finalErrorOf(t, sub))
			if !ok || closed.Code != test.code || closed.Text != test.reason {
				t.Errorf("got %+v, want %d %q", closed, test.code, test.reason)
			}
		})
	}
}

func TestGuestWhereTokenIsNeeded(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{})
	server.accept().close(4408, "no_auth retry_ms=1000")
	if err := finalErrorOf(t, sub); !errors.As(err, new(*CloseError)) {
		t.Errorf("got %v, want the close", err)
	}
}

func TestUnreadableFrameStops(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{})
	server.welcome().send(`{"message":`)
	if err := finalErrorOf(t, sub); err == nil {
		t.Error("got no error")
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{})
	conn := server.welcome()
	nextState(t, sub, Connected)
	conn.send(`{"message":{"room":"a","id":"e.1.a"}}`)
	sub.Close()
	conn.wantGoodbye()
	for range 2 {
		if _, err := sub.Next(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	sub, err := Subscribe(ctx, Config{URL: server.url})
	if err != nil {
		t.Fatal(err)
	}
	server.accept() // which never says welcome
	cancel(cause)
	if err := finalErrorOf(t, sub); !errors.Is(err, cause) {
		t.Errorf("got %v, want the context's cause", err)
	}
	sub.Close()
}

func TestNextObservesItsContext(t *testing.T) {
	t.Parallel()
	server := newSocketServer(t)
	sub := server.subscribe(Config{})
	server.welcome()
	nextState(t, sub, Connected)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := sub.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestSubscribeChecksItsConfig(t *testing.T) {
	t.Parallel()
	source := func(context.Context) (string, error) { return "", nil }
	tests := map[string]Config{
		"no URL":         {},
		"scheme":         {URL: "ftp://host/v1/ws"},
		"no host":        {URL: "ws:///v1/ws"},
		"user":           {URL: "ws://me@host"},
		"empty room":     {URL: "ws://host", Rooms: []RoomConfig{{}}},
		"room twice":     {URL: "ws://host", Rooms: []RoomConfig{{Room: "a"}, {Room: "a", After: "x"}}},
		"two token ways": {URL: "ws://host", Token: "t", TokenSource: source},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if sub, err := Subscribe(context.Background(), config); err == nil {
				sub.Close()
				t.Error("got no error")
			}
		})
	}
}

func TestSocketURL(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"ws://host:8080":             "ws://host:8080/v1/ws",
		"https://host/":              "wss://host/v1/ws",
		"http://host/live/ws?room=a": "ws://host/live/ws?room=a",
	}
	for address, want := range tests {
		if got, err := socketURL(address); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", address, got, err, want)
		}
	}
}
