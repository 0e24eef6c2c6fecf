package rolling

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/roomcast/roomcast/client"
)

// catchUp is how long clients may take for what was published last.
const catchUp = time.Minute

// Fleet says which clients a process is. They have a load balancer of their own: one
// for all would need more descriptors than a process has.
type Fleet struct {
	Nodes     []string // public addresses
	First     int      // number of the first client
	Count     int
	Rooms     int // in all; each client is in two
	PerSecond int // connections made at the start
}

// Tally is what the clients of a fleet have noticed.
type Tally struct {
	Delivered  int64
	Lost       int64
	Repeated   int64
	Gaps       int64
	Refused    int64          // subscriptions that ended
	Broken     int64          // connections that ended before there was another
	Moves      map[int]int    // clients by how many connections they have had beside the first
	Latencies  map[int]int    // messages by milliseconds from publish to delivery
	Complaints map[string]int // what else went wrong
	Accepted   []time.Time    // connections that came to the balancer
}

func newTally() *Tally {
	return &Tally{Moves: map[int]int{}, Latencies: map[int]int{}, Complaints: map[string]int{}}
}

func (t *Tally) add(o *Tally) {
	t.Delivered += o.Delivered
	t.Lost += o.Lost
	t.Repeated += o.Repeated
	t.Gaps += o.Gaps
	t.Refused += o.Refused
	t.Broken += o.Broken
	for to, from := range map[*map[int]int]map[int]int{&t.Moves: o.Moves, &t.Latencies: o.Latencies} {
		for k, n := range from {
			(*to)[k] += n
		}
	}
	t.Accepted = append(t.Accepted, o.Accepted...)
	for k, n := range o.Complaints {
		t.Complaints[k] += n
	}
}

// latency returns the milliseconds within which a share of the messages came.
func (t *Tally) latency(share float64) int {
	left := int64(share * float64(t.Delivered))
	for _, ms := range slices.Sorted(maps.Keys(t.Latencies)) {
		if left -= int64(t.Latencies[ms]); left <= 0 {
			return ms
		}
	}
	return 0
}

// mostMoves returns how often the client that moved most has moved.
func (t *Tally) mostMoves() (most int) {
	for moves := range t.Moves {
		most = max(most, moves)
	}
	return most
}

// roomName is the name of a room.
func roomName(n int) string { return "load:" + strconv.Itoa(n) }

// ServeFleet runs the clients: it reads a Fleet, one line of JSON, writes a line once
// all have subscribed, reads how many messages each room has had in the end, and
// writes a Tally once all have come or too much time has passed.
func ServeFleet(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	var f Fleet
	if err := readLine(lines, &f); err != nil {
		return err
	}
	f.PerSecond = max(f.PerSecond, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var nodes []*backend
	for _, addr := range f.Nodes {
		nodes = append(nodes, &backend{addr: addr, health: "http://" + addr + "/health"})
	}
	door, err := startBalancer(nodes)
	if err != nil {
		return err
	}
	defer door.stop()
	clients := make([]*subscriber, f.Count)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	pace := time.NewTicker(time.Second / time.Duration(f.PerSecond))
	defer pace.Stop()
	for i := range clients {
		n := f.First + i
		clients[i] = newSubscriber(roomName(n%f.Rooms), roomName((n*7+n/f.Rooms+1)%f.Rooms))
		if err := clients[i].start(ctx, "ws://"+door.addr(), &running); err != nil {
			return err
		}
		<-pace.C
	}
	for _, c := range clients {
		select {
		case <-c.ready:
		case <-time.After(catchUp):
			return errors.New("a client has not subscribed")
		}
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	ends := map[string]int{}
	if err := readLine(lines, &ends); err != nil {
		return err
	}
	by := time.Now().Add(catchUp)
	for _, c := range clients {
		c.awaitAll(ends, by)
	}
	cancel()
	running.Wait()
	all := newTally()
	all.Accepted = door.times()
	for _, c := range clients {
		all.add(c.sum(ends))
	}
	return json.NewEncoder(out).Encode(all)
}

func readLine(r *bufio.Reader, into any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}

// subscriber is one client, which checks that each room's messages are 1, 2, 3 and so
// on.
type subscriber struct {
	ready chan struct{} // closed once subscribed to all

	mu    sync.Mutex
	rooms map[string]int // the last message by room
	open  int            // rooms not subscribed yet
	conns int
	tally *Tally
}

func newSubscriber(rooms ...string) *subscriber {
	s := &subscriber{ready: make(chan struct{}), rooms: map[string]int{}, tally: newTally()}
	for _, room := range rooms {
		s.rooms[room] = 0
	}
	s.open = len(s.rooms)
	return s
}

func (s *subscriber) start(ctx context.Context, url string, running *sync.WaitGroup) error {
	config := client.Config{URL: url}
	for room := range s.rooms {
		config.Rooms = append(config.Rooms, client.RoomConfig{Room: room})
	}
	sub, err := client.Subscribe(ctx, config)
	if err != nil {
		return err
	}
	running.Go(func() {
		defer sub.Close()
		for event, err := range sub.Events(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					s.complain(err)
				}
				return
			}
			s.take(event)
		}
	})
	return nil
}

func (s *subscriber) complain(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.Refused++
	s.tally.Complaints[err.Error()]++
}

func (s *subscriber) take(event client.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := event.(type) {
	case client.Delivery:
		s.deliver(e)
	case client.Gap:
		s.tally.Gaps++
	case client.Subscribed:
		if s.open--; s.open == 0 {
			close(s.ready)
		}
	case client.StateChange:
		switch e.State {
		case client.Connected, client.Moved:
			s.conns++
		case client.Disconnected:
			s.tally.Broken++
			s.tally.Complaints["disconnected: "+e.Reason]++
		case client.Degraded, client.Restored:
		}
	}
}

// deliver checks one message: its number in the room, and when it was published.
func (s *subscriber) deliver(d client.Delivery) {
	number, stamp, _ := strings.Cut(string(d.Body.Bytes()), " ")
	n, err := strconv.Atoi(number)
	at, err2 := strconv.ParseInt(stamp, 10, 64)
	if err := errors.Join(err, err2); err != nil {
		s.tally.Complaints[err.Error()]++
		return
	}
	last := s.rooms[d.Room]
	if n <= last {
		s.tally.Repeated++
		return
	}
	s.tally.Lost += int64(n - last - 1)
	s.rooms[d.Room] = n
	s.tally.Delivered++
	s.tally.Latencies[int(time.Since(time.Unix(0, at)).Milliseconds())]++
}

// awaitAll waits until the client has the last message of each of its rooms.
func (s *subscriber) awaitAll(ends map[string]int, by time.Time) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(by) && s.missing(ends) > 0 {
		<-tick.C
	}
}

func (s *subscriber) missing(ends map[string]int) (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for room, last := range s.rooms {
		n += int64(ends[room] - last)
	}
	return n
}

// sum closes the tally.
func (s *subscriber) sum(ends map[string]int) *Tally {
	s.tally.Lost += s.missing(ends)
	s.tally.Moves[max(s.conns-1, 0)]++
	return s.tally
}
