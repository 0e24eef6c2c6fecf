package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/bench"
	"github.com/roomcast/roomcast/internal/room"
)

const (
	returning = 1000 // sockets that come back
	missed    = 50   // messages that each has missed

	// keepers stay in each room meanwhile where the ring is to hold what was missed: it
	// keeps four messages for each socket of its room.
	keepers = 13

	settling = 2 * time.Second // before something is measured
)

// resumed is what the coming back of all sockets took.
type resumed struct {
	rooms    int
	connects bench.Usage // of as many sockets that have missed nothing
	returns  bench.Usage
	reads    float64     // of the log meanwhile
	bare     bench.Usage // of as many Direct Gets of what one has missed, by nats.go
}

// each is the processor time a socket, in microseconds.
func each(cpu float64) float64 { return cpu * 1e6 / returning }

// resumeRows are sockets that come back to one room and to a room each, whose missed
// messages the node has in memory or not.
func resumeRows() []row {
	return []row{
		{
			name: "G ring one room", what: "1,000 sockets resume, 32 at a time, 50 messages missed each; from the ring", nodes: 1,
			run: resume(1), figures: figuresOfRing(200, "300 µs"),
		},
		{
			name: "G ring 1000 rooms", what: "the same, each in a room of its own", nodes: 1,
			run: resume(returning), figures: figuresOfRing(300, "390 µs"),
		},
		{
			name: "G log one room", what: "1,000 sockets resume from one room on a node that has just started: from the log", nodes: 1, nats: true,
			run: resume(1), figures: figuresOfLog(),
		},
		{
			name: "G log 1000 rooms", what: "the same, each in a room of its own", nodes: 1, nats: true,
			run: resume(returning), figures: figuresOfLog(),
		},
	}
}

func figuresOfRing(goal float64, centrifugo string) []figure {
	return append([]figure{{
		what: "CPU a client", unit: microseconds, goal: goal, atMost: true, peers: [4]string{centrifugo, "–", "–", "–"},
		value: func(m *measurement) float64 { return each(m.resumed.returns.CPU) },
	}}, figuresOfResume()...)
}

func figuresOfLog() []figure {
	return append([]figure{
		{
			what: "CPU a client on node and NATS server, less a bare Direct Get a room", unit: microseconds, goal: 200, atMost: true, peers: none(),
			value: func(m *measurement) float64 {
				gets := (m.resumed.bare.CPU + m.resumed.bare.Self) * float64(m.resumed.rooms) / returning
				return each(m.resumed.returns.CPU - gets)
			},
		},
		{
			what: "of the node alone", unit: microseconds, peers: none(),
			value: func(m *measurement) float64 { return each(m.resumed.returns.Processes[0].CPU) },
		},
		{
			what: "a bare Direct Get, NATS server alone", unit: microseconds, peers: none(),
			value: func(m *measurement) float64 { return each(m.resumed.bare.CPU) },
		},
		{
			what: "a bare Direct Get, caller alone", unit: microseconds, peers: none(),
			value: func(m *measurement) float64 { return each(m.resumed.bare.Self) },
		},
	}, figuresOfResume()...)
}

func figuresOfResume() []figure {
	return []figure{
		{
			what: "of it a connect and subscribe alone", unit: microseconds, peers: none(),
			value: func(m *measurement) float64 { return each(m.resumed.connects.CPU) },
		},
		{what: "reads of the log", peers: none(), value: func(m *measurement) float64 { return m.resumed.reads }},
		{
			what: "until all had everything", unit: milliseconds, peers: none(),
			value: func(m *measurement) float64 { return m.resumed.returns.Seconds * 1e3 },
		},
	}
}

// storm is one measurement of sockets that come back.
type storm struct {
	*workshop
	service *service
	dir     string
	rooms   []string
	after   []string // by room: the position that its sockets come back with
}

// resume measures sockets that come back to as many rooms.
func resume(rooms int) func(context.Context, *workshop, *row) (*measurement, error) {
	return func(ctx context.Context, w *workshop, r *row) (*measurement, error) {
		dir, err := os.MkdirTemp(w.dir, "run-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s := &storm{workshop: w, dir: dir, after: make([]string, rooms)}
		for i := range rooms {
			s.rooms = append(s.rooms, fmt.Sprintf("resume-%d", i))
		}
		if s.service, err = w.start(ctx, r, dir); err == nil {
			defer func() { s.service.stop() }()
			return s.measure(ctx, r.external())
		}
		s.service.stop()
		return nil, err
	}
}

// measure has the sockets miss something and come back: to the node that has it in
// memory, or to one that has just started.
func (s *storm) measure(ctx context.Context, fromLog bool) (*measurement, error) {
	if err := s.publish(ctx, 0, 1); err != nil { // a position to come back with
		return nil, err
	}
	stay := s.crowd()
	defer stay.leave()
	if !fromLog {
		err := stay.come(ctx, keepers*len(s.rooms), 0, func(i int) (string, string) { return s.rooms[i%len(s.rooms)], "" })
		if err != nil {
			return nil, err
		}
		stay.stay()
	}
	if err := s.publish(ctx, 1, missed); err != nil {
		return nil, err
	}
	if fromLog {
		if err := s.restart(ctx); err != nil {
			return nil, err
		}
	}
	m := &measurement{resumed: &resumed{rooms: len(s.rooms)}}
	var err error
	for range 2 { // the first is the node's warming up
		if m.resumed.connects, err = s.come(ctx, 0, func(int) (string, string) { return "resume-other", "" }); err != nil {
			return nil, err
		}
	}
	before, err := s.logReads(ctx)
	if err != nil {
		return nil, err
	}
	m.resumed.returns, err = s.come(ctx, missed, func(i int) (string, string) { return s.rooms[i%len(s.rooms)], s.after[i%len(s.rooms)] })
	if err != nil {
		return nil, err
	}
	after, err := s.logReads(ctx)
	m.resumed.reads, m.Usage = after-before, m.resumed.returns
	if err == nil && fromLog {
		m.resumed.bare, err = s.directGets(ctx)
	}
	return m, err
}

// crowd is nobody yet.
func (s *storm) crowd() *crowd {
	return &crowd{url: "ws://" + s.service.nodes[0].addrs.HTTP + "/v1/ws", token: s.token}
}

// come has all sockets come and measures it. Then they leave.
func (s *storm) come(ctx context.Context, missed int, place func(i int) (room, after string)) (bench.Usage, error) {
	if err := pause(ctx, settling); err != nil {
		return bench.Usage{}, err
	}
	c := s.crowd()
	defer c.leave()
	return metered(s.service.pids(), func() error { return c.come(ctx, returning, missed, place) })
}

// restart puts a new node in the place of the old one.
func (s *storm) restart(ctx context.Context) error {
	for _, stop := range s.service.stops {
		stop()
	}
	s.service.nodes[0].kill()
	s.service.nodes, s.service.stops = nil, nil
	return s.service.startNode(ctx, s.roomcast, filepath.Join(s.dir, "again"), s.service.common)
}

// publish publishes n messages more to every room, numbered from a number on.
func (s *storm) publish(ctx context.Context, from, n int) error {
	calls, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = calls.Close() }() // every call is answered
	service := roomcastv1.NewPublishServiceClient(calls)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
	for i := from; i < from+n; i++ {
		req := &roomcastv1.PublishBatchRequest{}
		for _, name := range s.rooms {
			req.Messages = append(req.Messages, &roomcastv1.PublishRequest{
				Room: name, Payload: &roomcastv1.PublishRequest_Text{Text: textOf(i)},
			})
		}
		resp, err := service.PublishBatch(ctx, req)
		if err != nil {
			return err
		}
		for room, result := range resp.GetResults() {
			if failure := result.GetError(); failure != nil {
				return fmt.Errorf("publish: %s", failure.GetMessage())
			}
			if i == 0 {
				s.after[room] = result.GetResponse().GetId()
			}
		}
	}
	return nil
}

// dial prepares a connection to the node's control listener.
func (s *storm) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(s.service.nodes[0].addrs.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// logReads is how many reads of the log the node counts.
func (s *storm) logReads(ctx context.Context) (n float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.service.nodes[0].addrs.Admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), "\nroomcast_log_reads_total ")
	if !found {
		return 0, errors.New("the node counts no reads of the log")
	}
	_, err = fmt.Sscan(rest, &n)
	return n, err
}

// directGets reads what each socket has missed with nothing but nats.go.
func (s *storm) directGets(ctx context.Context) (bench.Usage, error) {
	if err := pause(ctx, settling); err != nil {
		return bench.Usage{}, err
	}
	nc, err := nats.Connect(s.service.url)
	if err != nil {
		return bench.Usage{}, err
	}
	defer nc.Close()
	return metered([]int{s.service.nats[0].cmd.Process.Pid}, func() error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(atOnce)
		for i := range returning {
			group.Go(func() error { return directGet(ctx, nc, s.rooms[i%len(s.rooms)], s.after[i%len(s.rooms)]) })
		}
		return group.Wait()
	})
}

// directGet reads a room's messages from a position on, that message too.
func directGet(ctx context.Context, nc *nats.Conn, name, after string) error {
	pos, err := room.ParsePosition(after, "after")
	if err != nil {
		return err
	}
	replies := make(chan *nats.Msg, missed+2)
	inbox := nc.NewRespInbox()
	sub, err := nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection gone
	query, err := json.Marshal(map[string]any{"seq": pos.Seq, "next_by_subj": "rc.pub.default." + part(name) + "." + name, "batch": missed + 1})
	if err != nil {
		return err
	}
	if err := nc.PublishRequest("$JS.API.DIRECT.GET.RC_default", inbox, query); err != nil {
		return err
	}
	for got := 0; ; got++ {
		select {
		case msg := <-replies:
			if status := msg.Header.Get("Status"); status != "" && got != missed+1 {
				return fmt.Errorf("direct get: status %s after %d messages, want %d", status, got, missed+1)
			} else if status != "" {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// part is what stands before a room's name in its subject.
func part(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return fmt.Sprintf("%02x", h.Sum32()&0xff)
}
