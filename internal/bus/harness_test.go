package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// patience bounds every wait for something that takes seconds at most on a quiet machine.
const patience = time.Minute

var nodes atomic.Int64 // gives each bus a name of its own

// testBus is a bus with the metrics that it counts in.
type testBus struct {
	*bus.Bus
	metrics *metrics.Metrics
}

func open(t testing.TB, url string, changes ...func(*bus.Config)) testBus {
	t.Helper()
	b, err := tryOpen(t, url, changes...)
	if err != nil {
		t.Fatalf("open bus: %v", err)
	}
	return b
}

func tryOpen(t testing.TB, url string, changes ...func(*bus.Config)) (testBus, error) {
	t.Helper()
	cfg := bus.Config{
		Node: fmt.Sprint("test", nodes.Add(1)), Server: bus.Server{URL: url}, Policies: policies(t, nil),
		Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler),
	}
	for _, change := range changes {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, err := bus.Open(ctx, cfg)
	if err != nil {
		return testBus{}, err
	}
	t.Cleanup(b.Close)
	return testBus{b, cfg.Metrics}, nil
}

// policies has the namespaces default, small (3 messages) and eph (none).
func policies(t testing.TB, change func(map[string]room.Policy)) *room.Policies {
	t.Helper()
	small, eph := room.DefaultPolicy(), room.DefaultPolicy()
	small.History.Size, eph.History.Size = 3, 0
	namespaces := map[string]room.Policy{"default": room.DefaultPolicy(), "small": small, "eph": eph}
	if change != nil {
		change(namespaces)
	}
	p, err := room.NewPolicies(namespaces)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ear keeps what a room is told.
type ear struct {
	mu     sync.Mutex
	head   room.Position
	opened bool
	msgs   []*room.Message
	breaks []room.GapReason
	broke  int // how many messages there were at the last break
	purges []room.Position
}

func (e *ear) Opened(head room.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.head, e.opened = head, true
}

func (e *ear) Stands(head room.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.head = head
}

func (e *ear) Append(m *room.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.msgs = append(e.msgs, m)
}

func (e *ear) Break(reason room.GapReason, head room.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.breaks, e.broke, e.head = append(e.breaks, reason), len(e.msgs), head
}

func (e *ear) Purged(marker room.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.purges, e.head = append(e.purges, marker), marker
}

func (e *ear) purged() []room.Position {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]room.Position(nil), e.purges...)
}

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for _, m := range e.msgs {
		ids = append(ids, m.ID)
	}
	return ids
}

// heardSince is what the room has heard since the last break.
func (e *ear) heardSince() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []string
	for _, m := range e.msgs[e.broke:] {
		ids = append(ids, m.ID)
	}
	return ids
}

func (e *ear) broken() []room.GapReason {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]room.GapReason(nil), e.breaks...)
}

// openedAt is where a room was opened, or stands since.
func (e *ear) openedAt() (room.Position, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.head, e.opened
}

// listen hears a room and waits until it is open.
func listen(t testing.TB, b testBus, name room.Name) *ear {
	t.Helper()
	e := &ear{}
	t.Cleanup(b.Listen(name, e))
	e.awaitOpened(t, name)
	return e
}

func (e *ear) awaitOpened(t testing.TB, name room.Name) {
	t.Helper()
	nodetest.Eventually(t, patience, "room "+string(name)+" is open", func() bool {
		_, opened := e.openedAt()
		return opened
	})
}

// headOf hears a room and returns where it was opened.
func headOf(t testing.TB, b testBus, name room.Name) room.Position {
	t.Helper()
	head, _ := listen(t, b, name).openedAt()
	return head
}

// journal is what a bus has logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// counts returns how often a text has been said.
func (j *journal) counts(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

// logging has a bus log to a journal.
func logging(j *journal) func(*bus.Config) {
	return func(c *bus.Config) { c.Logger = slog.New(slog.NewTextHandler(j, nil)) }
}

func text(name room.Name, body string) *room.Publication {
	return &room.Publication{Room: name, Payload: room.Payload{Kind: room.Text, Bytes: []byte(body)}}
}

// publish stores a text and returns its id.
func publish(t testing.TB, b testBus, name room.Name, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := b.Publish(ctx, text(name, body))
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return ack.ID
}

func parse(t testing.TB, id string) room.Position {
	t.Helper()
	p, err := room.ParsePosition(id, "id")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
