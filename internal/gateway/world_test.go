package gateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
)

// bus is rooms' logs in memory: where the hub's and the gateway's messages come from
// and go to. Every room begins at position 10.
type bus struct {
	silent bool      // static: rooms are never opened
	late   room.Name // static: this one is opened by the test
	hangs  bool      // static: Read answers when its caller gives up

	mu     sync.Mutex
	rooms  map[room.Name]*hub.Room
	logs   map[room.Name][]*room.Message
	reads  int                 // pages asked for
	broken map[room.Name]error // what Read answers
	acks   chan struct{}       // if not nil, each acknowledgement takes one
}

func newBus() *bus {
	return &bus{
		rooms:  make(map[room.Name]*hub.Room),
		logs:   make(map[room.Name][]*room.Message),
		broken: make(map[room.Name]error),
	}
}

const start = 10

func at(seq uint64) room.Position { return room.Position{Epoch: "e", Seq: seq, Check: uint32(seq) + 7} }

func (b *bus) Listen(r *hub.Room) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rooms[r.Name] = r
	if !b.silent && r.Name != b.late {
		head := room.Position{}
		if r.Policy.Stored() {
			head = at(start + uint64(len(b.logs[r.Name])))
		}
		go r.Opened(head)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.rooms[r.Name] == r {
			delete(b.rooms, r.Name)
		}
	}
}

// append stores a text in a room and gives it to the room's sockets.
func (b *bus) append(name room.Name, text string) *room.Message {
	return b.store(&room.Publication{Room: name, Payload: room.Payload{Kind: room.Text, Bytes: []byte(text)}})
}

func (b *bus) store(p *room.Publication) *room.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	pos := at(start + 1 + uint64(len(b.logs[p.Room])))
	m := &room.Message{
		Room: p.Room, Position: pos, ID: pos.String(), Time: time.Unix(1_700_000_000, 0),
		Payload: p.Payload, Event: p.Event, ExcludeUser: p.ExcludeUser,
	}
	if p.Room.Prefix() == "eph" {
		m.Position = room.Position{}
	}
	b.logs[p.Room] = append(b.logs[p.Room], m)
	if r := b.rooms[p.Room]; r != nil {
		r.Append(m)
	}
	return m
}

func (b *bus) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *bus) readCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reads
}

func (b *bus) Ends(_ context.Context, name room.Name, after room.Position) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	log := b.logs[name]
	return len(log) == 0 || log[len(log)-1].Position.Seq <= after.Seq, nil
}

func (b *bus) Read(ctx context.Context, name room.Name, after room.Position, limit int) (room.Page, error) {
	if b.hangs {
		<-ctx.Done()
		return room.Page{}, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	switch {
	case b.broken[name] != nil:
		return room.Page{}, b.broken[name]
	case after.Epoch != "e":
		return room.Page{Gap: room.Reset}, nil
	}
	var page room.Page
	for _, m := range b.logs[name][min(max(after.Seq, start)-start, uint64(len(b.logs[name]))):] {
		if page.More = len(page.Messages) == limit; page.More {
			break
		}
		page.Messages, page.Last = append(page.Messages, m), m.Position
	}
	return page, nil
}

// sequence publishes to the bus at once; its answers come in any order.
type sequence struct{ bus *bus }

func (q sequence) Publish(ctx context.Context, p *room.Publication, done func(room.Ack, error)) {
	m := q.bus.store(p)
	go func() {
		if q.bus.acks != nil {
			select {
			case <-q.bus.acks:
			case <-ctx.Done():
				done(room.Ack{}, room.Errorf(room.Deadline, room.ReasonOutcomeUnknown, "no answer"))
				return
			}
		}
		done(room.Ack{ID: m.ID, Stored: true}, nil)
	}()
}

// world is a gateway with its real parts and an HTTP server, all inside a synctest
// bubble; only the bus is the test's.
type world struct {
	t        testing.TB
	gw       *Gateway
	hub      *hub.Hub
	bus      *bus
	metrics  *metrics.Metrics
	logs     *logText
	listener *pipeListener
}

// inBubble runs a test with a world of its own, and checks that nothing of it stays.
func inBubble(t *testing.T, change func(*Config, *bus), test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer w.hub.Close()
		defer w.gw.Drain(context.Background(), 0) // also if the test gives up
		test(w)
		w.gw.Drain(t.Context(), 0)
		synctest.Wait()
		if n := w.gw.Connections() + w.hub.Rooms(); n != 0 {
			t.Errorf("%d sockets and rooms are left", n)
		}
	})
}

func newWorld(t testing.TB, change func(*Config, *bus)) *world {
	t.Helper()
	w := &world{
		t: t, bus: newBus(), metrics: metrics.New(), logs: &logText{},
		listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
	cfg := newConfig(t, w.bus, w.metrics, slog.New(slog.NewJSONHandler(w.logs, nil)))
	if change != nil {
		change(&cfg, w.bus)
	}
	w.hub = cfg.Hub
	gw, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.gw = gw
	server := &http.Server{Handler: gw.Handler(), ReadHeaderTimeout: 10 * time.Second}
	var served sync.WaitGroup
	served.Go(func() { _ = gw.Serve(w.listener, nil, server) })
	t.Cleanup(func() {
		_ = server.Close()
		served.Wait()
	})
	return w
}

func newConfig(t testing.TB, b *bus, m *metrics.Metrics, logger *slog.Logger) Config {
	t.Helper()
	eph, chat := room.DefaultPolicy(), room.DefaultPolicy()
	eph.History.Size = 0
	chat.ClientPublish = true
	policies, err := room.NewPolicies(map[string]room.Policy{"eph": eph, "chat": chat})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.Config{DevKey: tokenKey()})
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Node: "n1", Version: "v1", Verifier: verifier, Policies: policies, Metrics: m, Logger: logger,
		Hub:         hub.New(hub.Config{Policies: policies, Source: b, Log: b, Metrics: m, Logger: logger}),
		NewSequence: func() Sequence { return sequence{bus: b} },
		Ready:       func() bool { return true },
	}
}

// guests lets everybody in.
func guests(c *Config, _ *bus) { c.Anonymous = auth.Guest() }

func tokenKey() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// elapse lets the bubble's time pass, and everything happen that is due.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// token makes one that is good for a while, with all rights in the rooms.
func token(t testing.TB, user string, life time.Duration, patterns ...string) string {
	t.Helper()
	rooms := map[string][]string{}
	for _, p := range patterns {
		rooms[p] = []string{auth.RightSubscribe, auth.RightPublish}
	}
	text, err := auth.Mint(tokenKey(), auth.Claims{User: user, Rooms: rooms, Expires: time.Now().Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// closes returns how many sockets have ended with each code.
func (w *world) closes(code string) float64 {
	return testutil.ToFloat64(w.metrics.Closes.WithLabelValues(code))
}

// wantCloses waits until the sockets that have ended are those of want, by code.
func (w *world) wantCloses(want map[string]int) {
	w.t.Helper()
	synctest.Wait()
	got := map[string]int{}
	for _, code := range slices.Sorted(maps.Keys(want)) {
		got[code] = int(w.closes(code))
	}
	if !maps.Equal(got, want) || testutil.CollectAndCount(w.metrics.Closes) != len(want) {
		w.t.Errorf("sockets ended with %v of %d codes, want %v", got, testutil.CollectAndCount(w.metrics.Closes), want)
	}
}

// logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// pipeListener hands out connections without buffers: a write waits for its reader.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, fmt.Errorf("dial: %w", net.ErrClosed)
	}
}
