package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/roomcast/roomcast/client"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// patience bounds every wait for something that takes milliseconds on a quiet machine.
const patience = time.Minute

func TestMain(m *testing.M) { nodetest.Main(m) }

// frame is a server frame as a third party would read it.
type frame struct {
	ID         uint32         `json:"id"`
	Welcome    *welcomeFrame  `json:"welcome"`
	Subscribed *positionFrame `json:"subscribed"`
	Message    *message       `json:"message"`
	Gap        *gapFrame      `json:"gap"`
	Published  *published     `json:"published"`
	Error      *errorFrame    `json:"error"`
	Pong       *struct{}      `json:"pong"`
	Degraded   *degradedFrame `json:"degraded"`
	Restored   *struct{}      `json:"restored"`
	Members    *membersFrame  `json:"members"`
	Join       *memberFrame   `json:"join"`
	Leave      *memberFrame   `json:"leave"`
	Reconnect  *reconnect     `json:"reconnect"`
}

type welcomeFrame struct{ User, Node string }

type positionFrame struct{ Room, Position string }

type gapFrame struct{ Room, After, Reason, Position string }

type errorFrame struct{ Code, Reason, Field string }

type degradedFrame struct{ Reason string }

type memberFrame struct{ Room, User, Connection, Node, Reason string }

type membersFrame struct {
	Room               string
	Members            []memberFrame
	Connections, Users int
	Complete           bool
	MissingNodes       []string
}
type reconnect struct{ WithinMs int }

type published struct {
	ID                string
	Stored, Duplicate bool
}

// message is a message as a socket gets it.
type message struct {
	Room, ID, Event, Text string
	JSON                  json.RawMessage
	Data                  []byte
	Time                  time.Time
	Replayed              bool
}

// socket is a WebSocket without a client library's help.
type socket struct {
	t    testing.TB
	conn *websocket.Conn
	last uint32 // request id
}

// dial opens a socket and waits for its welcome; without a token it is the guest's.
func dial(t testing.TB, n *nodetest.Node, token string) *socket {
	t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	conn, resp, err := websocket.DefaultDialer.DialContext(bounded(t), n.SocketURL(), header)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // it is empty
	t.Cleanup(func() { _ = conn.Close() })
	s := &socket{t: t, conn: conn}
	if f := s.next(); f.Welcome == nil {
		t.Fatalf("the first frame is %+v, not welcome", f)
	}
	return s
}

// token is one of the user's with all rights in all rooms.
func token(t testing.TB, user string) string {
	t.Helper()
	all := []string{auth.RightSubscribe, auth.RightPublish, auth.RightPresence}
	text, err := auth.Mint([]byte(nodetest.Key), auth.Claims{
		User: user, Rooms: map[string][]string{"*": all}, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// next reads one frame. What is said of the bus is passed over: on a busy machine that
// may be away for long enough.
func (s *socket) next() frame {
	s.t.Helper()
	for {
		if f := s.any(); f.Degraded == nil && f.Restored == nil {
			return f
		}
	}
}

// any reads one frame, whatever it is.
func (s *socket) any() frame {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience)) // never fails
	_, data, err := s.conn.ReadMessage()
	if err != nil {
		s.t.Fatalf("read frame: %v", err)
	}
	return parse(s.t, data)
}

func parse(t testing.TB, data []byte) frame {
	t.Helper()
	var f frame
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatalf("frame %s: %v", data, err)
	}
	return f
}

// send sends a request, such as {"ping":{}}, and returns its id.
func (s *socket) send(request string) uint32 {
	s.t.Helper()
	s.last++
	text := fmt.Sprintf(`{"id":%d,%s`, s.last, strings.TrimPrefix(request, "{"))
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
	return s.last
}

// answer reads to the answer of a request; messages before it are lost.
func (s *socket) answer(id uint32) frame {
	s.t.Helper()
	for {
		if f := s.next(); f.ID == id {
			return f
		}
	}
}

// subscribe subscribes a room and returns the position; after may be empty.
func (s *socket) subscribe(name, after string) string {
	s.t.Helper()
	f := s.answer(s.send(fmt.Sprintf(`{"subscribe":{"room":%q,"after":%q}}`, name, after)))
	if f.Subscribed == nil || f.Subscribed.Room != name {
		s.t.Fatalf("subscribe %s: answered %+v", name, f)
	}
	return f.Subscribed.Position
}

// messages reads so many messages. Nothing else may come.
func (s *socket) messages(count int) []message {
	s.t.Helper()
	all := make([]message, 0, count)
	for len(all) < count {
		f := s.next()
		if f.Message == nil {
			s.t.Fatalf("after %d of %d messages: %+v", len(all), count, f)
		}
		all = append(all, *f.Message)
	}
	return all
}

// quiet returns the messages that are under way. Answers may overtake messages by one
// write, so the second pong tells.
func (s *socket) quiet() (all []message) {
	s.t.Helper()
	for range 2 {
		id := s.send(`{"ping":{}}`)
		for f := s.next(); f.ID != id; f = s.next() {
			if f.Message != nil {
				all = append(all, *f.Message)
			}
		}
	}
	return all
}

// texts are the bodies of text messages.
func texts(messages []message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Text)
	}
	return all
}

func ids(messages []message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.ID)
	}
	return all
}

// numbered is "0", "1" and so on.
func numbered(count int) []string {
	var all []string
	for i := range count {
		all = append(all, strconv.Itoa(i))
	}
	return all
}

// publisher is the Go client's publisher on a node.
func publisher(t testing.TB, n *nodetest.Node) *client.Publisher {
	t.Helper()
	p, err := client.Dial(n.GRPC, client.WithPlaintext())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// publish publishes a request and returns the message's id.
func publish(t testing.TB, n *nodetest.Node, req *roomcastv1.PublishRequest) string {
	t.Helper()
	resp, err := roomcastv1.NewPublishServiceClient(n.Dial(t)).Publish(bounded(t), req)
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return resp.GetId()
}

func text(name, body string) *roomcastv1.PublishRequest {
	return &roomcastv1.PublishRequest{Room: name, Payload: &roomcastv1.PublishRequest_Text{Text: body}}
}

// publishAll publishes texts in order and returns the ids.
func publishAll(t testing.TB, n *nodetest.Node, name string, bodies []string) []string {
	t.Helper()
	req := &roomcastv1.PublishBatchRequest{}
	for _, body := range bodies {
		req.Messages = append(req.Messages, text(name, body))
	}
	resp, err := roomcastv1.NewPublishServiceClient(n.Dial(t)).PublishBatch(bounded(t), req)
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	var all []string
	for _, r := range resp.GetResults() {
		if r.GetError() != nil {
			t.Fatalf("publish: %v", r.GetError())
		}
		all = append(all, r.GetResponse().GetId())
	}
	return all
}

// namespace makes a node's configuration have one more.
func namespace(name string, change func(*room.Policy)) nodetest.Config {
	policy := room.DefaultPolicy()
	change(&policy)
	return func(c *node.Config) {
		if c.Namespaces == nil {
			c.Namespaces = make(map[string]room.Policy)
		}
		c.Namespaces[name] = policy
	}
}

// get asks by HTTP and returns status and body.
func get(t testing.TB, url, bearer string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	asker := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := asker.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// metric reads one value of /metrics.
func metric(t testing.TB, n *nodetest.Node, name string) float64 {
	t.Helper()
	_, body := get(t, "http://"+n.Admin+"/metrics", "")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// bounded is a context for one call.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
