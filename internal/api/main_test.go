package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for what must happen; a test that reaches it has failed.
const patience = time.Minute

// recorder is a publisher and a log in memory. It keeps what it is given and answers
// at once, unless hold or answer say otherwise.
type recorder struct {
	answer func(p *room.Publication) (room.Ack, error) // nil = acknowledge
	hold   bool                                        // sequences wait for release
	pages  map[room.Name][]*room.Message               // guarded by mu from the first call on
	gap    room.GapReason                              // of every read that names a position

	held chan func() // one for each publication that a sequence holds

	mu        sync.Mutex
	published []*room.Publication // guarded by mu
	deadlines []time.Duration     // guarded by mu: what each context had left
}

func newRecorder() *recorder {
	return &recorder{held: make(chan func(), 4*streamWindow), pages: map[room.Name][]*room.Message{}}
}

func (r *recorder) Publish(ctx context.Context, p *room.Publication) (room.Ack, error) {
	r.mu.Lock()
	r.published = append(r.published, p)
	n := len(r.published)
	if deadline, ok := ctx.Deadline(); ok {
		r.deadlines = append(r.deadlines, time.Until(deadline))
	}
	r.mu.Unlock()
	if r.answer != nil {
		return r.answer(p)
	}
	return room.Ack{ID: fmt.Sprintf("e.%d.1", n), Stored: true}, nil
}

func (r *recorder) NewSequence() Sequence { return (*recordedSequence)(r) }

func (r *recorder) seen() []*room.Publication {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.published)
}

type recordedSequence recorder

func (s *recordedSequence) Publish(ctx context.Context, p *room.Publication, done func(room.Ack, error)) {
	r := (*recorder)(s)
	ack, err := r.Publish(ctx, p)
	if !r.hold {
		done(ack, err)
		return
	}
	var once sync.Once
	finish := func(err error) { once.Do(func() { done(ack, err) }) }
	stop := context.AfterFunc(ctx, func() { finish(ctx.Err()) })
	r.held <- func() { stop(); finish(err) }
}

func (r *recorder) Ends(_ context.Context, name room.Name, after room.Position) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.pages[name]
	return len(log) == 0 || log[len(log)-1].Position.Seq <= after.Seq, nil
}

func (r *recorder) Read(_ context.Context, name room.Name, after room.Position, limit int) (room.Page, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := room.Page{}
	if !after.IsZero() {
		page.Gap = r.gap
	}
	for _, m := range r.pages[name] {
		if m.Position.Seq <= after.Seq {
			continue
		}
		if len(page.Messages) == limit {
			page.More = true
			break
		}
		page.Messages = append(page.Messages, m)
		page.Last = m.Position
	}
	return page, nil
}

func (r *recorder) ReadBack(_ context.Context, name room.Name, before room.Position, limit int) (room.Page, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := room.Page{}
	if !before.IsZero() {
		page.Gap = r.gap
	}
	for _, m := range slices.Backward(r.pages[name]) {
		if !before.IsZero() && m.Position.Seq >= before.Seq {
			continue
		}
		if len(page.Messages) == limit {
			page.More = true
			break
		}
		page.Messages = append(page.Messages, m)
		page.Last = m.Position
	}
	return page, nil
}

// Purge removes a room's pages.
func (r *recorder) Purge(_ context.Context, name room.Name) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	removed := len(r.pages[name])
	delete(r.pages, name)
	return uint64(removed), nil
}

// testKey signs the tests' tokens.
func testKey() []byte { return bytes.Repeat([]byte("k"), auth.MinHMACKey) }

// testServer is a running server and what stands behind it.
type testServer struct {
	*recorder
	rooms  *source
	server *Server
	conn   *grpc.ClientConn
	logs   *logBuffer
}

// start runs a server with an anonymous caller who may do all; change may alter its
// configuration.
func start(t *testing.T, change func(*Config, *recorder)) *testServer {
	t.Helper()
	policies, err := room.NewPolicies(map[string]room.Policy{
		"live": ephemeral(), "strict": strict(), "big": {History: room.DefaultPolicy().History, Slow: room.SlowSpill, MaxPayload: room.MaxMaxPayload},
	})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.Config{DevKey: testKey()})
	if err != nil {
		t.Fatal(err)
	}
	ts := &testServer{recorder: newRecorder(), rooms: &source{left: make(chan room.Name, 100)}, logs: &logBuffer{}}
	logger := slog.New(slog.NewTextHandler(ts.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	rooms := hub.New(hub.Config{
		Policies: policies, Source: ts.rooms, Log: ts.recorder, RingMessages: 8, Metrics: metrics.New(), Logger: logger,
	})
	who := presence.New(presence.Config{
		Node: "n1", Policies: policies, Asker: alone{}, Teller: alone{}, Rooms: rooms, Logger: logger,
	})
	t.Cleanup(who.Close)
	if err := who.Answer(nil); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Policies: policies, Publisher: ts.recorder, Log: ts.recorder, Rooms: rooms, Presence: who, Connections: &switchboard{}, Nodes: nodes{},
		Verifier: verifier, Anonymous: auth.Everything(), Reflection: true,
		Logger: logger,
	}
	if change != nil {
		change(&cfg, ts.recorder)
	}
	ts.server, err = NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	lis := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- ts.server.Serve(lis) }()
	ts.conn, err = grpc.NewClient("passthrough:///roomcast",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ts.conn.Close()
		ts.server.Stop(t.Context()) // ended by now: cut what is left
		rooms.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: got %v, want nil", err)
		}
	})
	return ts
}

func ephemeral() room.Policy {
	p := room.DefaultPolicy()
	p.History.Size = 0
	return p
}

func strict() room.Policy {
	p := room.DefaultPolicy()
	p.Slow = room.SlowDisconnect
	return p
}

// source is the bus as rooms see it: the test says what happens in them.
type source struct {
	mu    sync.Mutex
	rooms []*hub.Room // guarded by mu: heard now
	left  chan room.Name
}

// head is where a room stands when it is opened.
func head() room.Position { return room.Position{Epoch: "e", Seq: 100, Check: 7} }

func (s *source) Listen(r *hub.Room) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms = append(s.rooms, r)
	go r.Opened(head())
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rooms = slices.DeleteFunc(s.rooms, func(other *hub.Room) bool { return other == r })
		s.left <- r.Name
	}
}

// heard returns the rooms that somebody watches.
func (s *source) heard() []*hub.Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rooms)
}

// bearer returns a context with a token that has the claims.
func bearer(t *testing.T, c auth.Claims) context.Context {
	t.Helper()
	if c.User == "" {
		c.User = "svc"
	}
	if c.Expires.IsZero() {
		c.Expires = time.Now().Add(time.Hour)
	}
	token, err := auth.Mint(testKey(), c)
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// want is the status that a test expects. Empty fields are not looked at.
type want struct {
	code   codes.Code
	reason room.Reason
	field  string
	text   string // part of the message
	retry  bool   // has RetryInfo
}

// check compares a status with what is wanted, its details included.
func (w want) check(t *testing.T, st *status.Status) {
	t.Helper()
	if st.Code() != w.code || !strings.Contains(st.Message(), w.text) {
		t.Errorf("status: got %s %q, want %s with %q", st.Code(), st.Message(), w.code, w.text)
	}
	var info *errdetails.ErrorInfo
	field, retry := "", false
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.BadRequest:
			field = d.GetFieldViolations()[0].GetField()
		case *errdetails.RetryInfo:
			retry = true
		}
	}
	if info.GetReason() != string(w.reason) || info.GetDomain() != "roomcast" {
		t.Errorf("ErrorInfo: got %v, want reason %s of domain roomcast", info, w.reason)
	}
	if field != w.field {
		t.Errorf("BadRequest: got field %q, want %q", field, w.field)
	}
	if retry != w.retry {
		t.Errorf("RetryInfo: got %t, want %t", retry, w.retry)
	}
}

// logBuffer collects log lines from any goroutine.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) lines(part string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// alone is a cluster of one node, which answers itself.
type alone map[string]func(ctx context.Context, question []byte, part func([]byte))

func (a alone) Ask(ctx context.Context, kind string, question []byte, take func(node string, part []byte)) presence.Attendance {
	a[kind](ctx, question, func(part []byte) { take("n1", part) })
	return presence.Attendance{Complete: ctx.Err() == nil}
}

func (a alone) AskNode(ctx context.Context, _, kind string, question []byte, take func(part []byte)) error {
	a[kind](ctx, question, take)
	return ctx.Err()
}

func (a alone) Answer(kind string, answer func(ctx context.Context, question []byte, part func([]byte))) error {
	a[kind] = answer
	return nil
}

func (alone) Tell(room.Name, []byte) {}

func (alone) Hear(context.Context, room.Name, func([]byte)) (stop func(), err error) {
	return func() {}, nil
}

func (alone) Nodes() []presence.Node { return []presence.Node{{Name: "n1", Incarnation: "i"}} }
