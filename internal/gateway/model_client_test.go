package gateway

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// asked is one request of a client.
type asked struct {
	frame *roomcastv1.ClientFrame // nil: a ping of RFC 6455, or nonsense
	ping  string                  // that ping's payload
	done  int64                   // how many events rooms had been told before
	sent  bool                    // wholly
}

// modelClient is one socket's peer, and what is known of it.
type modelClient struct {
	w      *model // static, as all but what is locked
	user   string
	format wire.Format
	rng    *rand.Rand // of its script
	conn   net.Conn
	s      *session
	sock   *modelSocket // nil: the gateway's own
	ear    *earshot
	mute   bool // does not answer pings
	polite bool // closes its end after the node's close frame

	tick <-chan time.Time // not nil: its time stands still, and this is real

	writing chan struct{} // one slot: one frame at a time; a lock would stop the bubble's time
	scripted
	mu     sync.Mutex // guards what follows
	hung   bool       // it has closed the connection
	closes bool       // it has sent a close frame
}

// scripted is what a script has asked, and checkpoints of the test. They are the
// script's, and the test's when it has ended.
type scripted struct {
	asked  []*asked
	nextID uint32
	corked bool   // requests wait for the next one
	unsent string // they
	strict bool   // a room that disconnects the slow was among them
	marks  []mark
}

// mark is a moment at which a client must have got everything.
type mark struct {
	frames int // it had got so many
	rest   int // and so many bytes of one more
	at     time.Time
	ends   map[room.Name]place
}

func (c *modelClient) write(data string) bool {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	_, err := c.conn.Write([]byte(data))
	return err == nil
}

// send writes a client's frame, at once or in pieces.
func (c *modelClient) send(data string) bool {
	if c.rng.IntN(10) > 0 {
		return c.write(data)
	}
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	cut := c.rng.IntN(len(data))
	for _, piece := range []string{data[:cut], data[cut:]} {
		if _, err := c.conn.Write([]byte(piece)); err != nil {
			return false
		}
		c.pause(5 * time.Millisecond)
	}
	return true
}

func (c *modelClient) pause(most time.Duration) {
	if c.tick != nil {
		<-c.tick
		return
	}
	<-time.After(time.Duration(c.rng.Int64N(int64(most))).Truncate(time.Millisecond))
}

func (c *modelClient) hangUp() {
	c.mu.Lock()
	c.hung = true
	c.mu.Unlock()
	_ = c.conn.Close()
}

// ask sends one request and reports whether the connection is still there.
func (c *modelClient) ask(f *roomcastv1.ClientFrame) bool {
	c.nextID++
	f.Id = c.nextID
	a := &asked{frame: f, done: c.w.log.done.Load()}
	c.asked = append(c.asked, a)
	data, err := protojson.Marshal(f)
	if c.format == wire.Protobuf {
		data, err = proto.Marshal(f)
	}
	if err != nil {
		c.w.t.Errorf("encode: %v", err)
		return false
	}
	c.unsent += frame(fin|byte(c.format.Opcode()), string(data))
	if c.corked {
		return true
	}
	a.sent, c.unsent = c.send(c.unsent), ""
	return a.sent
}

// flash subscribes and leaves in one breath: the flusher finds out while it serves.
func (c *modelClient) flash(name room.Name, after string) bool {
	c.corked = true
	c.subscribe(name, after)
	c.corked = false
	return c.unsubscribe(name)
}

func (c *modelClient) askPing() bool {
	c.nextID++
	a := &asked{ping: fmt.Sprint("ping ", c.nextID)}
	c.asked = append(c.asked, a)
	a.sent = c.send(frame(ping, a.ping))
	return a.sent
}

// askNonsense sends what is no request.
func (c *modelClient) askNonsense() bool {
	a := &asked{}
	c.asked = append(c.asked, a)
	data := `{"nonsense":1}`
	if c.format == wire.Protobuf {
		data = "\xff"
	}
	a.sent = c.send(frame(fin|byte(c.format.Opcode()), data))
	return a.sent
}

func (c *modelClient) subscribe(name room.Name, after string) bool {
	m := c.w.log.rooms[name]
	c.strict = c.strict || m.policy.Slow == room.SlowDisconnect
	return c.ask(&roomcastv1.ClientFrame{Request: &roomcastv1.ClientFrame_Subscribe_{
		Subscribe: &roomcastv1.ClientFrame_Subscribe{Room: string(name), After: after},
	}})
}

func (c *modelClient) unsubscribe(name room.Name) bool {
	return c.ask(&roomcastv1.ClientFrame{Request: &roomcastv1.ClientFrame_Unsubscribe_{
		Unsubscribe: &roomcastv1.ClientFrame_Unsubscribe{Room: string(name)},
	}})
}

func (c *modelClient) publish(name room.Name, p *room.Publication) bool {
	return c.ask(&roomcastv1.ClientFrame{Request: &roomcastv1.ClientFrame_Publish_{
		Publish: &roomcastv1.ClientFrame_Publish{
			Room: string(name), Payload: &roomcastv1.ClientFrame_Publish_Text{Text: string(p.Payload.Bytes)},
		},
	}})
}

// script is what a client does until it has had enough: it leaves, or stays on.
func (c *modelClient) script(steps int) {
	nonsense := 0
	for range steps {
		switch c.rng.IntN(20) {
		case 0:
			c.pause(2 * time.Second)
		case 1, 2, 3, 4, 5, 6:
		default:
			c.pause(30 * time.Millisecond)
		}
		name := modelRooms[c.rng.IntN(len(modelRooms))]
		ok := true
		switch n := c.rng.IntN(100); {
		case n < 42:
			ok = c.subscribe(name, c.w.log.someAfter(name))
		case n < 50:
			ok = c.flash(name, c.w.log.someAfter(name))
		case n < 70:
			ok = c.unsubscribe(name)
		case n < 80:
			ok = c.ask(&roomcastv1.ClientFrame{Request: &roomcastv1.ClientFrame_Ping_{Ping: &roomcastv1.ClientFrame_Ping{}}})
		case n < 85:
			ok = c.askPing()
		case n < 97:
			ok = c.publish(name, c.w.log.makeUp(name))
		case nonsense < maxBadRequests-1:
			nonsense++
			ok = c.askNonsense()
		}
		if !ok {
			return
		}
	}
	switch c.rng.IntN(8) {
	case 0:
		c.mu.Lock()
		c.closes = true
		c.mu.Unlock()
		c.send(closeFrame(1000, ""))
	case 1:
		c.hangUp()
	}
}

// belong is the script of one in a crowd: it takes part in one room.
func (c *modelClient) belong(name room.Name, steps int) {
	if !c.subscribe(name, "") {
		return
	}
	for range c.rng.IntN(steps) {
		c.pause(100 * time.Millisecond)
		if c.rng.IntN(2) == 0 && !c.unsubscribe(name) || !c.subscribe(name, c.w.log.someAfter(name)) {
			return
		}
	}
}

// makeUp is publication with the log's lock.
func (l *modelLog) makeUp(name room.Name) *room.Publication {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.publication(name)
}

// someAfter names a position: most often a good one, of a message that is in the log
// or was, of a moment, of this node's head; sometimes of another log, or none.
func (l *modelLog) someAfter(name room.Name) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, e := l.rooms[name], l.rooms[name].epoch()
	if !m.policy.Stored() {
		return []string{"", "", "", "yesterday", "e0.5.c"}[l.rng.IntN(5)]
	}
	pos := room.Position{Epoch: e.name, Seq: l.rng.Uint64N(e.seq + 1)}
	old := pos
	if n := len(e.entries); n > 0 {
		near := max(0, n-1-l.rng.IntN(30))
		pos = e.entries[near].pos
		old = e.entries[l.rng.IntN(n)].pos
	}
	switch n := l.rng.IntN(100); {
	case n < 35:
		return ""
	case n < 60:
		return pos.String()
	case n < 72:
		return old.String()
	case n < 80:
		pos.Check = 0
	case n < 88:
		return m.head.String()
	case n < 91:
		pos.Check = 2000 // no record's
	case n < 93:
		pos.Seq, pos.Check = e.seq+1000, pos.Check*l.rng.Uint32N(2)
	case n < 95:
		pos.Epoch = "other"
	case n < 99:
		first := m.epochs[0]
		pos = room.Position{Epoch: first.name, Seq: first.seq}
	default:
		return "yesterday"
	}
	return pos.String()
}

// connect gives a session a peer.
func (w *model) connect(rng *rand.Rand, h habit) *modelClient {
	ours, theirs := net.Pipe()
	c := &modelClient{
		w: w, user: fmt.Sprintf("u%d", rng.IntN(modelUsers)), format: wire.Format(rng.IntN(wire.Formats)),
		rng: rng, conn: ours, mute: rng.IntN(20) == 0, polite: rng.IntN(2) == 0,
		writing: make(chan struct{}, 1),
	}
	c.s = newSession(w.gw, theirs, &admission{format: c.format, remote: "model"})
	c.s.flusher = w.gw.flushers[rng.IntN(len(w.gw.flushers))%w.flushers]
	if !w.gw.add(c.s) {
		w.t.Error("the gateway takes no socket")
		return nil
	}
	if rng.IntN(8) > 0 {
		c.sock = &modelSocket{
			client: c, ready: c.s.ready, habit: h, pauses: w.pauses,
			rng: rand.New(rand.NewPCG(rng.Uint64(), 1)),
		}
		c.s.w.sock, c.ear = c.sock, &c.sock.earshot
	} else {
		c.ear = &earshot{}
		own := rand.New(rand.NewPCG(rng.Uint64(), 2))
		w.ears.Go(func() {
			c.ear.listen(c, ours, func() {
				if own.IntN(2) == 0 {
					<-time.After(time.Duration(own.IntN(20)) * time.Millisecond)
				}
			})
		})
	}
	w.mu.Lock()
	w.clients = append(w.clients, c)
	w.mu.Unlock()
	go c.s.begin(w.caller(c.user), nil)
	return c
}

// mark notes what a client has got, if it is still served.
func (c *modelClient) mark(ends map[room.Name]place) {
	if c.s.out.closing() {
		return
	}
	c.ear.mu.Lock()
	defer c.ear.mu.Unlock()
	if c.sock != nil && c.sock.waits {
		return // with a ping just now, in part
	}
	c.marks = append(c.marks, mark{frames: len(c.ear.in.frames), rest: len(c.ear.in.rest), at: time.Now(), ends: ends})
}
