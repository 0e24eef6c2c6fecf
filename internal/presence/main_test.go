package presence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/metrics"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is nodes with real hubs and a bus between them that can be told to fail.
// internal/node tests the same with the real bus.
type cluster struct {
	t *testing.T

	mu      sync.Mutex // guards what follows
	nodes   []*member
	hearing map[room.Name]map[*func([]byte)]struct{}
	asks    int
	tells   int
	largest int                    // bytes of a part or a question
	lose    func(from string) bool // a message between nodes; nil = none
	asking  func(node string)      // one node is asked; nil = nothing happens
	telling func()                 // is called first when a node tells; nil = nothing happens
	young   bool                   // nobody knows who is there
}

// member is one node as the others see it.
type member struct {
	*Presence
	c       *cluster
	hub     *hub.Hub
	lane    *hub.Lane
	answers map[string]func(context.Context, []byte, func([]byte))

	// guarded by cluster.mu
	node   Node
	gone   bool // nobody hears it
	left   bool // it is not there any more, and what it told is still under way
	silent bool // it answers nothing
}

func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, hearing: make(map[room.Name]map[*func([]byte)]struct{})}
	policies, err := room.NewPolicies(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		m := &member{c: c, answers: make(map[string]func(context.Context, []byte, func([]byte)))}
		m.node = Node{Name: name, Incarnation: "first of " + name}
		m.hub = hub.New(hub.Config{Policies: policies, Source: quiet{}, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)})
		m.lane = hub.NewLane(func(*hub.Part) {})
		m.Presence = New(Config{
			Node: name, Policies: policies, Asker: m, Teller: m, Rooms: m.hub,
			NotReady: func() []string { return nil }, Logger: slog.New(slog.DiscardHandler),
		})
		if err := m.Presence.Answer(m); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, m)
		t.Cleanup(m.hub.Close)
		t.Cleanup(m.Close)
	}
	return c
}

// quiet is a log in which nothing happens.
type quiet struct{}

func (quiet) Listen(r *hub.Room) func() {
	r.Opened(room.Position{Epoch: "e", Seq: 1})
	return func() {}
}

func (m *member) Ask(_ context.Context, kind string, question []byte, take func(string, []byte)) (a Attendance) {
	m.c.mu.Lock()
	m.c.asks++
	m.c.largest = max(m.c.largest, len(question))
	nodes, young := slices.Clone(m.c.nodes), m.c.young
	m.c.mu.Unlock()
	for _, other := range nodes {
		switch gone, silent := other.state(); {
		case gone:
		case silent:
			a.lacks(other.node.Name)
		default:
			other.reply(kind, question, func(part []byte) { take(other.node.Name, part) })
		}
	}
	a.Complete = len(a.Missing) == 0 && !young
	return a
}

func (m *member) AskNode(_ context.Context, node, kind string, question []byte, take func([]byte)) error {
	for _, other := range m.c.nodes {
		if gone, silent := other.state(); other.node.Name == node && !gone && !silent {
			m.c.mu.Lock()
			m.c.asks++
			m.c.largest = max(m.c.largest, len(question))
			if m.c.asking != nil {
				m.c.asking(node)
			}
			m.c.mu.Unlock()
			other.reply(kind, question, take)
			return nil
		}
	}
	return errors.New("no answer")
}

func (m *member) reply(kind string, question []byte, take func([]byte)) {
	m.answers[kind](m.c.t.Context(), question, func(part []byte) {
		m.c.mu.Lock()
		m.c.largest = max(m.c.largest, len(part))
		m.c.mu.Unlock()
		take(part)
	})
}

func (m *member) state() (gone, silent bool) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.gone, m.silent
}

func (m *member) Answer(kind string, answer func(context.Context, []byte, func([]byte))) error {
	m.answers[kind] = answer
	return nil
}

func (m *member) Nodes() (list []Node) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, other := range m.c.nodes {
		if !other.gone && !other.left {
			list = append(list, other.node)
		}
	}
	return list
}

func (m *member) Tell(name room.Name, body []byte) {
	m.c.mu.Lock()
	m.c.tells++
	telling := m.c.telling
	m.c.mu.Unlock()
	if telling != nil {
		telling()
	}
	m.c.mu.Lock()
	lost := m.gone || m.c.lose != nil && m.c.lose(m.node.Name)
	var heard []*func([]byte)
	for f := range m.c.hearing[name] {
		heard = append(heard, f)
	}
	m.c.mu.Unlock()
	if lost {
		return
	}
	for _, f := range heard {
		(*f)(body)
	}
}

func (m *member) Hear(_ context.Context, name room.Name, heard func([]byte)) (func(), error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.hearing[name] == nil {
		m.c.hearing[name] = make(map[*func([]byte)]struct{})
	}
	m.c.hearing[name][&heard] = struct{}{}
	return func() {
		m.c.mu.Lock()
		defer m.c.mu.Unlock()
		delete(m.c.hearing[name], &heard)
	}, nil
}

func (m *member) Connections() int { return 0 }

// change changes what happens between the nodes.
func (c *cluster) change(how func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	how()
}

// socket is one in a room: a user and a connection of the same name.
type socket struct {
	m    *member
	name string
}

func (s socket) User() string                          { return "user of " + s.name }
func (s socket) Connection() string                    { return s.name }
func (s socket) Format() wire.Format                   { return wire.JSON }
func (s socket) Lane() *hub.Lane                       { return s.m.lane }
func (s socket) Behind(*hub.Cursor)                    {}
func (s socket) Deliver(_ *hub.Cursor, f [][]byte) int { return len(f) }

// enter puts a socket into a room.
func (m *member) enter(name room.Name, connection string) *hub.Cursor {
	m.c.t.Helper()
	c, _, err := m.hub.Join(m.c.t.Context(), time.Now().Add(time.Minute), name, room.Position{}, socket{m, connection})
	if err != nil {
		m.c.t.Fatal(err)
	}
	c.Start()
	m.c.t.Cleanup(c.Leave)
	return c
}

// log is what a listener is told: "[c1 c2]", "+c1", "-c1 CLOSED", "=600".
type log struct {
	mu   sync.Mutex
	full bool // takes nothing
	all  []string
}

func (l *log) tell(e *Event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return false
	}
	switch e.Kind {
	case Join:
		l.all = append(l.all, "+"+e.Member.Connection)
	case Leave:
		l.all = append(l.all, fmt.Sprintf("-%s %s", e.Member.Connection, e.Reason))
	case Occupancy:
		l.all = append(l.all, fmt.Sprint("=", e.Connections))
	case Snapshot:
		var names []string
		for _, m := range e.Members {
			names = append(names, m.Connection)
		}
		text := fmt.Sprint(names)
		if len(names) > 9 {
			text = fmt.Sprintf("[%d of %d]", len(names), e.Connections)
		}
		if !e.Complete {
			text += fmt.Sprint(" without ", e.Missing)
		}
		l.all = append(l.all, text)
	}
	return true
}

// fill makes the listener take nothing, or all again.
func (l *log) fill(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

// take returns what was told since it was last called.
func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}
