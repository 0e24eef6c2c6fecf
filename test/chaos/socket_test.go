package chaos

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	deadAfter = 4 * time.Second // without a frame; the socket pings more often
	pingEvery = time.Second
)

// frame is what this package reads of a server's frame.
type frame struct {
	Subscribed   *struct{ Room, Position string }
	Unsubscribed *struct{ Room string }
	Message      *struct{ Room, ID, Text string }
	Gap          *struct{ Room, After, Reason, Position string }
	Error        *struct{ Code, Reason, Message string }
	Pong         *struct{}
	Degraded     *struct{ Reason string }
	Restored     *struct{}
	Reconnect    *struct{ Reason string }
	Welcome      *struct{ Node string }
}

// seat is a socket's place in one room.
type seat struct {
	position string // where it stands; empty: it was never there
	wanted   bool
	asked    time.Time // subscribing or unsubscribing since; zero = neither
	open     bool
}

// socket is one client: it takes seats in its rooms, leaves and resumes them, and moves
// from node to node, at random. What it sees and does is in events.
type socket struct {
	number int
	nodes  []string // addresses
	random *rand.Rand
	since  time.Time // the run began

	mu     sync.Mutex
	rooms  []string
	seats  map[string]*seat
	events []Event
	conn   *websocket.Conn // nil = not connected
	closed chan struct{}   // the reader of conn has ended
	pinged time.Time
	stay   bool // no more leaving
	lastID uint32
}

func newSocket(number int, seed uint64, nodes, rooms []string, since time.Time) *socket {
	s := &socket{
		number: number, nodes: nodes, since: since, rooms: rooms,
		random: rand.New(rand.NewPCG(seed, uint64(number)+1000)), seats: make(map[string]*seat),
	}
	for _, room := range rooms {
		s.seats[room] = &seat{wanted: s.random.IntN(2) == 0}
	}
	return s
}

// note records an event. The lock is held.
func (s *socket) note(kind Kind, room, id, text string) {
	s.events = append(s.events, Event{time.Since(s.since), kind, room, id, text})
}

// run is the socket's life, until ctx ends.
func (s *socket) run(ctx context.Context) {
	defer s.hangUp("end")
	for ctx.Err() == nil {
		if !s.connected() && !s.connect(ctx) {
			pause(ctx, s.draw(100*time.Millisecond, 400*time.Millisecond))
			continue
		}
		s.takeSeats()
		pause(ctx, s.draw(50*time.Millisecond, 500*time.Millisecond))
		s.act(ctx)
	}
}

func (s *socket) draw(from, to time.Duration) time.Duration {
	return from + time.Duration(s.random.Int64N(int64(to-from)))
}

func (s *socket) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil
}

// connect tries one node.
func (s *socket) connect(ctx context.Context) bool {
	addr := s.nodes[s.random.IntN(len(s.nodes))]
	dialer := websocket.Dialer{HandshakeTimeout: 2 * time.Second, NetDialContext: (&net.Dialer{Timeout: time.Second}).DialContext}
	conn, resp, err := dialer.DialContext(ctx, "ws://"+addr+"/v1/ws", nil)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // it is empty
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(Connected, "", "", addr)
	s.conn, s.closed = conn, make(chan struct{})
	go s.read(conn, s.closed)
	return true
}

// act does one thing at random: mostly leave a room or come back to one, now and then
// move to another node, politely or not.
func (s *socket) act(ctx context.Context) {
	s.mu.Lock()
	stay := s.stay
	if !stay {
		seat := s.seats[s.rooms[s.random.IntN(len(s.rooms))]]
		seat.wanted = !seat.wanted
	}
	s.mu.Unlock()
	if stay || s.random.IntN(20) > 0 {
		return
	}
	if s.random.IntN(2) == 0 {
		s.cut()
	} else {
		s.hangUp("politely")
	}
	pause(ctx, s.draw(0, 1500*time.Millisecond))
}

// takeSeats asks for what the socket wants and has not.
func (s *socket) takeSeats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return
	}
	for _, room := range s.rooms {
		seat := s.seats[room]
		switch {
		case !seat.asked.IsZero() && time.Since(seat.asked) > patience/2:
			s.note(Other, room, "", "no answer")
			_ = s.conn.Close() // it begins again on another connection
			return
		case seat.wanted == seat.open || !seat.asked.IsZero():
		case seat.wanted:
			seat.asked = time.Now()
			s.note(Asked, room, seat.position, "")
			s.send(map[string]any{"subscribe": map[string]any{"room": room, "after": seat.position}})
		default:
			seat.asked = time.Now()
			s.note(Left, room, seat.position, "")
			s.send(map[string]any{"unsubscribe": map[string]any{"room": room}})
		}
	}
	if time.Since(s.pinged) > pingEvery {
		s.pinged = time.Now()
		s.send(map[string]any{"ping": map[string]any{}})
	}
}

// send sends one request. The lock is held; nobody else writes.
func (s *socket) send(request map[string]any) {
	s.lastID++
	request["id"] = s.lastID
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second)) // never fails
	_ = s.conn.WriteJSON(request)                            // the reader notices
}

// read takes the frames of one connection.
func (s *socket) read(conn *websocket.Conn, closed chan struct{}) {
	defer close(closed)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(s.deadAfter())) // never fails
		_, body, err := conn.ReadMessage()
		var f frame
		if err == nil {
			err = json.Unmarshal(body, &f)
		}
		s.mu.Lock()
		if err != nil {
			s.note(Closed, "", "", err.Error())
			_ = conn.Close()
			s.conn = nil
			for _, seat := range s.seats {
				seat.open, seat.asked = false, time.Time{}
			}
			s.mu.Unlock()
			return
		}
		s.take(&f, body)
		s.mu.Unlock()
	}
}

// deadAfter is for how long a frame is waited for: where nothing is broken any more a
// node may only be slow.
func (s *socket) deadAfter() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stay {
		return patience / 2
	}
	return deadAfter
}

// take takes one frame. The lock is held.
func (s *socket) take(f *frame, body []byte) {
	switch {
	case f.Message != nil:
		s.note(Message, f.Message.Room, f.Message.ID, f.Message.Text)
		s.stand(f.Message.Room, f.Message.ID)
	case f.Subscribed != nil:
		s.note(Subscribed, f.Subscribed.Room, f.Subscribed.Position, "")
		s.stand(f.Subscribed.Room, f.Subscribed.Position)
		s.answered(f.Subscribed.Room, true)
	case f.Unsubscribed != nil:
		s.note(Unsubscribed, f.Unsubscribed.Room, "", "")
		s.answered(f.Unsubscribed.Room, false)
	case f.Gap != nil:
		s.note(Gap, f.Gap.Room, f.Gap.After, f.Gap.Reason)
		s.stand(f.Gap.Room, f.Gap.Position)
	case f.Pong != nil, f.Welcome != nil:
	case f.Error != nil:
		s.note(Other, "", "", string(body))
		for _, seat := range s.seats { // whose it was does not matter: what is wanted is asked again
			seat.asked = time.Time{}
		}
	default:
		s.note(Other, "", "", string(body))
	}
}

// stand moves the socket's place, if it knows the room.
func (s *socket) stand(room, position string) {
	if seat := s.seats[room]; seat != nil && position != "" {
		seat.position = position
	}
}

func (s *socket) answered(room string, open bool) {
	if seat := s.seats[room]; seat != nil {
		seat.open, seat.asked = open, time.Time{}
	}
}

// cut ends the connection without a word.
func (s *socket) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return
	}
	if tcp, ok := s.conn.NetConn().(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset
	}
	_ = s.conn.Close() // the reader notices
}

// hangUp closes the connection and waits for its reader.
func (s *socket) hangUp(why string) {
	s.mu.Lock()
	conn, closed := s.conn, s.closed
	if conn != nil {
		message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, why)
		_ = conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second)) // it may have gone
	}
	s.mu.Unlock()
	if conn == nil {
		return
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C: // it does not answer
		_ = conn.Close()
		<-closed
	}
}

// settle has the socket take all its seats and leave none.
func (s *socket) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stay = true
	for _, seat := range s.seats {
		seat.wanted = true
	}
}

// settled reports whether the socket is open in its rooms and has come to their ends,
// the sequences of their last messages, and how much it has seen. Rooms without an end
// do not count.
func (s *socket) settled(ends map[string]uint64) (ok bool, events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, room := range s.rooms {
		end, counts := ends[room]
		seat := s.seats[room]
		if at, _ := parsePlace(seat.position); counts && (!seat.open || at.seq < end) {
			return false, len(s.events)
		}
	}
	return true, len(s.events)
}

// seen are the events until now.
func (s *socket) seen() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}
