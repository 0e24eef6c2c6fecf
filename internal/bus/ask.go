package bus

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

const (
	askPrefix  = "rc.ctl.ask."
	maxAnswers = 256 // questions of one kind that a node works on at a time
	askTimeout = 15 * time.Second
)

// Attendance says who answered a question.
type Attendance struct {
	Complete bool     // everybody did, and this node knows who everybody is
	Missing  []string // who did not answer whole, sorted
}

// answerer is how this node answers a kind of question.
type answerer func(ctx context.Context, question []byte, part func([]byte))

// asks is the questions between nodes: those that this one has asked, and how it
// answers others'.
type asks struct {
	bus   *Bus   // static
	inbox string // static; where answers come, a token each

	mu      sync.Mutex // guards what follows
	open    map[string]*asked
	answers map[string]answerer
}

func newAsks(b *Bus) *asks {
	return &asks{bus: b, open: make(map[string]*asked), answers: make(map[string]answerer)}
}

// start begins to hear answers.
func (a *asks) start() error {
	a.inbox = a.bus.ctl.NewInbox() + "."
	if _, err := a.bus.ctl.Subscribe(a.inbox+"*", a.hear); err != nil {
		return fmt.Errorf("subscribe to answers: %w", err)
	}
	return nil
}

// hear takes one part of an answer.
func (a *asks) hear(msg *nats.Msg) {
	if len(msg.Data) == 0 {
		return // NATS says that nobody listens
	}
	var part busv1.Answer
	if err := proto.Unmarshal(msg.Data, &part); err != nil {
		a.bus.log.Debug("unreadable answer", "err", err)
		return
	}
	a.mu.Lock()
	c := a.open[strings.TrimPrefix(msg.Subject, a.inbox)]
	a.mu.Unlock()
	if c != nil {
		c.hear(&part)
	}
}

// asked is one question that waits for its answers.
type asked struct {
	take func(node string, part []byte) // static
	done chan struct{}                  // closed once everybody has answered whole

	mu      sync.Mutex          // guards what follows
	waiting map[string]*waiting // by incarnation
	left    int                 // of them, those that have not answered whole
	ended   bool                // nobody waits any more
}

// waiting is one node that was asked.
type waiting struct {
	node  string
	parts uint32 // heard
	whole bool
}

func newAsked(expected []Member, take func(node string, part []byte)) *asked {
	c := &asked{take: take, done: make(chan struct{}), waiting: make(map[string]*waiting, len(expected)), left: len(expected)}
	for _, m := range expected {
		c.waiting[m.Incarnation] = &waiting{node: m.Node}
	}
	return c
}

// hear takes a part. Who was not expected counts from its first part on.
func (c *asked) hear(part *busv1.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	w := c.waiting[part.GetIncarnation()]
	if w == nil {
		w = &waiting{node: part.GetNode()}
		c.waiting[part.GetIncarnation()] = w
		c.left++
	}
	if w.whole {
		return
	}
	if part.Part != nil {
		w.parts++
		c.take(w.node, part.GetPart())
	}
	if part.GetLast() && part.GetParts() == w.parts { // else NATS has lost one, as a reconnect does
		w.whole = true
		if c.left--; c.left == 0 {
			c.ended = true
			close(c.done)
		}
	}
}

// end stops the taking and returns who has not answered whole. Of all that were asked,
// who has left in the meantime without a word is nobody to wait for.
func (c *asked) end(there func(incarnation string) bool) (missing []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for incarnation, w := range c.waiting {
		if !w.whole && (w.parts > 0 || there(incarnation)) {
			missing = append(missing, w.node)
		}
	}
	slices.Sort(missing)
	return missing
}

// Ask asks every live node, this one among them, and hands the parts of their answers
// to take, those of one node in its order, one call at a time. It returns when all
// have answered whole, or ctx ends. A node that nobody has heard of may answer too.
func (b *Bus) Ask(ctx context.Context, kind string, question []byte, take func(node string, part []byte)) Attendance {
	missing := b.asks.ask(ctx, askPrefix+kind, kind, b.Members(), question, take)
	return Attendance{Missing: missing, Complete: len(missing) == 0 && (b.cfg.Embedded != nil || b.members.whole(time.Now()))}
}

// AskNode asks one node and hands the parts of its answer to take, in their order.
// Errors: NotFound if no such node is live, Unavailable if it did not answer whole
// before ctx ended.
func (b *Bus) AskNode(ctx context.Context, node, kind string, question []byte, take func(part []byte)) error {
	all := b.Members()
	at := slices.IndexFunc(all, func(m Member) bool { return m.Node == node })
	if at < 0 {
		return room.Errorf(room.NotFound, room.ReasonNoSuchNode, "there is no live node %q", node)
	}
	subject := askPrefix + kind + "." + string(encodeRoom(nil, room.Name(node)))
	missing := b.asks.ask(ctx, subject, kind, all[at:at+1], question, func(_ string, part []byte) { take(part) })
	if len(missing) > 0 {
		return room.Errorf(room.Unavailable, room.ReasonNodeUnavailable, "node %q does not answer", node)
	}
	return nil
}

// ask sends a question to the nodes that are expected to answer and waits. If this
// node is one of them it answers itself, in this goroutine.
func (a *asks) ask(
	ctx context.Context, subject, kind string, expected []Member, question []byte, take func(node string, part []byte),
) (missing []string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := newAsked(expected, take)
	self := a.bus.members.self.Incarnation
	alone := len(expected) == 1 && expected[0].Incarnation == self
	unheard := make(chan struct{})
	if a.bus.cfg.Embedded == nil && (!alone || subject == askPrefix+kind) {
		token := rand.Text()
		a.mu.Lock()
		a.open[token] = c
		a.mu.Unlock()
		defer func() {
			a.mu.Lock()
			delete(a.open, token)
			a.mu.Unlock()
		}()
		if err := a.send(ctx, subject, token, question); err != nil {
			a.bus.log.Debug("ask", "kind", kind, "err", err)
			close(unheard)
		}
	}
	if slices.ContainsFunc(expected, func(m Member) bool { return m.Incarnation == self }) {
		a.answer(ctx, kind, question, c.hear)
	}
	select {
	case <-c.done:
	case <-unheard:
	case <-ctx.Done():
	}
	there := a.bus.Members()
	return c.end(func(incarnation string) bool {
		return subject != askPrefix+kind || slices.ContainsFunc(there, func(m Member) bool { return m.Incarnation == incarnation })
	})
}

// send puts a question on its way.
func (a *asks) send(ctx context.Context, subject, token string, question []byte) error {
	ask := &busv1.Ask{Question: question}
	if by, ok := ctx.Deadline(); ok {
		ask.WithinMs = uint32(max(1, time.Until(by).Milliseconds())) //nolint:gosec // askTimeout at most
	}
	body, err := proto.Marshal(ask)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return a.bus.ctl.PublishRequest(subject, a.inbox+token, body)
}

// Answer says how this node answers a kind of question, once and before anybody asks.
// answer runs in a goroutine of its own, or in that of [Bus.Ask], until ctx ends at the
// latest; it calls part for each part of its answer, of at most 64 KiB, which it does
// not touch any more.
func (b *Bus) Answer(kind string, answer func(ctx context.Context, question []byte, part func([]byte))) error {
	b.asks.mu.Lock()
	b.asks.answers[kind] = answer
	b.asks.mu.Unlock()
	if b.cfg.Embedded != nil {
		return nil
	}
	busy := make(chan struct{}, maxAnswers)
	self := askPrefix + kind + "." + string(encodeRoom(nil, room.Name(b.cfg.Node)))
	for _, subject := range []string{askPrefix + kind, self} {
		if _, err := b.ctl.Subscribe(subject, func(msg *nats.Msg) { b.asks.serve(kind, msg, busy) }); err != nil {
			return fmt.Errorf("subscribe to questions: %w", err)
		}
	}
	if err := b.ctl.FlushTimeout(writeTimeout); err != nil {
		b.log.Debug("flush questions", "err", err) // sent again when NATS is back
	}
	return nil
}

// serve answers another node.
func (a *asks) serve(kind string, msg *nats.Msg, busy chan struct{}) {
	if strings.HasPrefix(msg.Reply, a.inbox) {
		return // ours: answered already
	}
	var ask busv1.Ask
	if err := proto.Unmarshal(msg.Data, &ask); err != nil {
		a.bus.log.Debug("unreadable question", "kind", kind, "err", err)
		return
	}
	select {
	case busy <- struct{}{}:
	case <-a.bus.ctx.Done():
		return
	}
	a.bus.spawn(func() {
		defer func() { <-busy }()
		ctx, cancel := context.WithTimeout(a.bus.ctx, time.Duration(ask.GetWithinMs())*time.Millisecond)
		defer cancel()
		a.answer(ctx, kind, ask.GetQuestion(), func(part *busv1.Answer) {
			body, err := proto.Marshal(part)
			if err == nil {
				err = a.bus.ctl.Publish(msg.Reply, body)
			}
			if err != nil {
				a.bus.log.Debug("answer", "kind", kind, "err", err)
			}
		})
	})
}

// answer gives this node's answer part by part. A kind that it does not know, as that
// of a newer program, it does not answer: that is no whole answer.
func (a *asks) answer(ctx context.Context, kind string, question []byte, give func(*busv1.Answer)) {
	a.mu.Lock()
	answer := a.answers[kind]
	a.mu.Unlock()
	if answer == nil {
		return
	}
	node, incarnation := a.bus.cfg.Node, a.bus.members.self.Incarnation
	held := &busv1.Answer{Node: node, Incarnation: incarnation}
	parts := uint32(0)
	answer(ctx, question, func(part []byte) {
		parts++
		if held.Part != nil {
			give(held)
		}
		held = &busv1.Answer{Node: node, Incarnation: incarnation, Part: part}
	})
	if ctx.Err() != nil {
		return // it may have given up
	}
	held.Last, held.Parts = true, parts
	give(held)
}
