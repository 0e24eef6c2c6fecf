package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// publisher publishes to random rooms, one way of the three, and gives every message
// the same id until it is acknowledged. Message ids number a room's messages, so that
// every room has the same ones.
type publisher struct {
	name    string
	rooms   []string
	ids     map[string]*atomic.Int64 // of all publishers, by room
	nodes   []roomcastv1.PublishServiceClient
	random  *rand.Rand
	since   time.Time
	calls   *atomic.Int64 // numbers batches and streams
	pending []*Publish    // not acknowledged, in the order in which they must be sent
	all     []*Publish
	strange []string    // answers that no fault explains
	where   int         // the node in use
	over    func() bool // nothing new is wanted
}

// next makes a publication.
func (p *publisher) next() *Publish {
	n := len(p.all)
	room := p.rooms[p.random.IntN(len(p.rooms))]
	m := &Publish{
		Room: room, Text: fmt.Sprintf("%s %d for %s", p.name, n, room), MessageID: fmt.Sprint("m", p.ids[room].Add(1)), Began: time.Since(p.since),
	}
	p.all = append(p.all, m)
	return m
}

func (m *Publish) request() *roomcastv1.PublishRequest {
	return &roomcastv1.PublishRequest{
		Room: m.Room, MessageId: m.MessageID,
		Payload: &roomcastv1.PublishRequest_Text{Text: m.Text},
	}
}

func (m *Publish) acked(call int64, r *roomcastv1.PublishResponse) {
	m.ID, m.Duplicate, m.Call = r.GetId(), r.GetDuplicate(), int(call)
}

// failed takes note of an answer that is none of those that ask for another try.
func (p *publisher) failed(m *Publish, c codes.Code, message string) {
	switch c {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled:
	default:
		p.strange = append(p.strange, fmt.Sprintf("%q: %s %s", m.Text, c, message))
	}
}

func (p *publisher) move() { p.where = (p.where + 1) % len(p.nodes) }

// node is the node in use.
func (p *publisher) node() roomcastv1.PublishServiceClient { return p.nodes[p.where] }

// callTimeout is below what a call may take, so that a paused node is left.
const callTimeout = 6 * time.Second

// unary publishes one by one.
func (p *publisher) unary(ctx context.Context) {
	m := p.next()
	for ctx.Err() == nil {
		m.Attempts++
		call, cancel := context.WithTimeout(ctx, callTimeout)
		answer, err := p.node().Publish(call, m.request())
		cancel()
		if err == nil {
			m.acked(0, answer)
			return
		}
		p.failed(m, status.Code(err), err.Error())
		p.move()
		pause(ctx, 50*time.Millisecond)
	}
}

// batch publishes up to 40 at once; what was not acknowledged is first in the next one.
func (p *publisher) batch(ctx context.Context) {
	for size := 10 + p.random.IntN(30); len(p.pending) < size && !p.over(); {
		p.pending = append(p.pending, p.next())
	}
	req := &roomcastv1.PublishBatchRequest{}
	for _, m := range p.pending {
		m.Attempts++
		req.Messages = append(req.Messages, m.request())
	}
	id := p.calls.Add(1)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := p.node().PublishBatch(call, req)
	if err != nil {
		p.failed(p.pending[0], status.Code(err), err.Error())
		p.move()
		pause(ctx, 50*time.Millisecond)
		return
	}
	var left []*Publish
	for i, r := range answer.GetResults() {
		if r.GetResponse() != nil {
			p.pending[i].acked(id, r.GetResponse())
			continue
		}
		p.failed(p.pending[i], codes.Code(r.GetError().GetCode()), r.GetError().GetMessage())
		left = append(left, p.pending[i])
	}
	p.pending = left
}

// stream publishes over one stream until it breaks or has taken 300; what was not
// acknowledged is first in the next one.
func (p *publisher) stream(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	stream, err := p.node().PublishStream(ctx)
	if err != nil {
		p.move()
		pause(ctx, 50*time.Millisecond)
		return
	}
	const size = 300
	queue := p.pending
	sent := make(chan *Publish, len(queue)+size)
	var left []*Publish
	var wg sync.WaitGroup
	wg.Go(func() { left = p.answers(stream, sent) })
	for i := 0; i < len(queue) || i < size && !p.over() && ctx.Err() == nil; i++ {
		if i == len(queue) {
			queue = append(queue, p.next())
			pause(ctx, 8*time.Millisecond)
		}
		queue[i].Attempts++
		sent <- queue[i]
		_ = stream.Send(&roomcastv1.PublishStreamRequest{Message: queue[i].request()}) // the answers tell
	}
	_ = stream.CloseSend()
	close(sent)
	wg.Wait()
	p.pending = left
	if len(left) > 0 {
		p.move()
	}
}

// answers takes a stream's answers, which come in the order of its requests, and
// returns what was not acknowledged.
func (p *publisher) answers(stream roomcastv1.PublishService_PublishStreamClient, sent <-chan *Publish) (left []*Publish) {
	id := p.calls.Add(1)
	broken := false
	for m := range sent {
		if broken {
			left = append(left, m)
			continue
		}
		answer, err := stream.Recv()
		switch r := answer.GetResult(); {
		case err != nil:
			broken = true
			p.failed(m, status.Code(err), err.Error())
			left = append(left, m)
		case r.GetResponse() != nil:
			m.acked(id, r.GetResponse())
		default:
			p.failed(m, codes.Code(r.GetError().GetCode()), r.GetError().GetMessage())
			left = append(left, m)
		}
	}
	return left
}

// publishers are all of a run.
type publishers struct {
	all  []*publisher
	stop context.CancelFunc // nothing new
	wg   sync.WaitGroup
}

// startPublishers has four publish one by one, two in batches and two by streams. Each
// goes on, after stop, until all of its messages are acknowledged or ctx ends.
func startPublishers(ctx context.Context, c *cluster, seed uint64, rooms []string, since time.Time) *publishers {
	c.t.Helper()
	var nodes []roomcastv1.PublishServiceClient
	for _, n := range c.nodes {
		conn, err := grpc.NewClient(n.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}, MinConnectTimeout: time.Second,
		}))
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { _ = conn.Close() })
		nodes = append(nodes, roomcastv1.NewPublishServiceClient(conn))
	}
	ps := &publishers{}
	producing, stop := context.WithCancel(ctx)
	ps.stop = stop
	calls, ids := &atomic.Int64{}, make(map[string]*atomic.Int64)
	for _, room := range rooms {
		ids[room] = &atomic.Int64{}
	}
	ways := map[string]struct {
		count int
		every time.Duration
		once  func(*publisher, context.Context)
	}{
		"unary":  {4, 20 * time.Millisecond, (*publisher).unary},
		"batch":  {2, 150 * time.Millisecond, (*publisher).batch},
		"stream": {2, 0, (*publisher).stream},
	}
	for way, w := range ways {
		for i := range w.count {
			name := fmt.Sprint(way, i)
			p := &publisher{
				name: name, rooms: rooms, ids: ids, nodes: nodes, since: since, calls: calls, where: i % len(nodes),
				random: rand.New(rand.NewPCG(seed, uint64(i)+uint64(len(way))<<8)),
				over:   func() bool { return producing.Err() != nil },
			}
			ps.all = append(ps.all, p)
			ps.wg.Go(func() {
				for ctx.Err() == nil && (!p.over() || len(p.pending) > 0) {
					w.once(p, ctx)
					pause(producing, w.every)
				}
			})
		}
	}
	return ps
}

// finish ends the publishing and returns what was published.
func (ps *publishers) finish() (all []Publish, strange []string) {
	ps.stop()
	ps.wg.Wait()
	for _, p := range ps.all {
		for _, m := range p.all {
			all = append(all, *m)
		}
		strange = append(strange, p.strange...)
	}
	return all, strange
}
