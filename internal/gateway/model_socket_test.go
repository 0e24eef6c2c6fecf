package gateway

import (
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/wire"
)

// habit is how a client takes what is written to it: chances in 1000 a write.
type habit struct {
	partial int           // takes a part only, or says full without need
	stall   int           // of those: for nearly writeTimeout
	drown   int           // of those: for longer than writeTimeout
	breaks  int           // the connection breaks
	wait    time.Duration // at most, before it takes more
}

// modelHabits are the clients' kinds.
var modelHabits = []habit{
	{partial: 50, wait: 20 * time.Millisecond},
	{partial: 600, wait: 5 * time.Millisecond},
	{partial: 500, stall: 20, wait: 300 * time.Millisecond},
	{partial: 400, stall: 100, drown: 15, wait: time.Second},
	{partial: 300, breaks: 4, wait: 20 * time.Millisecond},
}

// earshot is what a client has got.
type earshot struct {
	mu sync.Mutex // guards in and what its owner says
	in splitter
}

// modelSocket is a peer's end of a connection without the kernel: it takes as many
// bytes of each write as its habit wants.
type modelSocket struct {
	earshot // its lock guards what follows

	client   *modelClient // static, as ready, habit and pauses
	ready    func()
	habit    habit
	pauses   bool // stands still in a write now and then, so that others go on
	rng      *rand.Rand
	blocked  *time.Timer // has said that it is full; when it fires, it takes more
	waits    bool        // blocked, or about to be
	released bool        // takes everything
	nibbles  int         // after its release: so many writes in part, all the same
	echoes   int         // after its release: so many writes bring a message themselves
	closed   bool
	broken   bool
	drowned  bool // took nothing for longer than writeTimeout
	misuse   string
}

var errModelBroken = errors.New("the model's connection breaks")

func (s *modelSocket) write(frames [][]byte) (n int64, full bool, err error) {
	now, begun := time.Now(), s.client.w.log.begun.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.waits {
		s.misuse = "written to though it is closed or full"
	}
	total := 0
	for _, f := range frames {
		total += len(f)
	}
	take := total
	switch {
	case total == 0:
	case !s.released:
		if s.rng.IntN(1000) < s.habit.partial {
			take, full = s.appetite(frames, total)
		}
		if s.rng.IntN(1000) < s.habit.breaks {
			s.broken, err = true, errModelBroken
		}
	case s.nibbles > 0:
		s.nibbles--
		take, full = s.appetite(frames, total)
	}
	s.client.w.stats.writes.Add(1)
	if take < total {
		s.client.w.stats.partial.Add(1)
	}
	s.take(frames, take, now, begun)
	if err != nil {
		return int64(take), false, err
	}
	if full {
		s.fill()
	}
	if s.pauses && !s.released {
		s.dawdle()
	}
	if s.echoes > 0 && total > 0 {
		s.echoes--
		s.mu.Unlock()
		s.client.w.say(modelRooms[s.rng.IntN(len(modelRooms))])
		s.mu.Lock()
	}
	return int64(take), full, nil
}

// appetite is how much of a write it takes.
func (s *modelSocket) appetite(frames [][]byte, total int) (take int, full bool) {
	switch s.rng.IntN(5) {
	case 0:
		return 0, true
	case 1:
		return min(total, 1+s.rng.IntN(4)), true // a part of a header
	case 2:
		return len(frames[0]), true // to a frame's end
	case 3:
		return total, true
	default:
		return s.rng.IntN(total), true
	}
}

func (s *modelSocket) take(frames [][]byte, n int, now time.Time, begun int64) {
	before := len(s.in.frames)
	for _, f := range frames {
		f = f[:min(n, len(f))]
		s.in.feed(f, now, begun)
		n -= len(f)
	}
	s.client.heard(s.in.frames[before:])
}

// fill says full, and has ready called some time. It may be called before write has
// returned.
func (s *modelSocket) fill() {
	wait := time.Duration(s.rng.Int64N(int64(s.habit.wait)))
	switch n := s.rng.IntN(1000); {
	case s.released:
		wait = min(wait, 5*time.Millisecond)
	case n < s.habit.drown:
		wait, s.drowned = writeTimeout+time.Second, true
	case n < s.habit.drown+s.habit.stall:
		wait = writeTimeout - 500*time.Millisecond
		s.client.w.stats.stalls.Add(1)
	}
	if s.rng.IntN(3) == 0 && wait < time.Second {
		s.ready()
		return
	}
	s.waits = true
	s.blocked = time.AfterFunc(wait, s.unblock)
}

func (s *modelSocket) unblock() {
	s.mu.Lock()
	was := s.waits
	s.waits = false
	s.mu.Unlock()
	if was {
		s.ready()
	}
}

// dawdle lets the others go on in the middle of a flusher's work; now and then it
// brings news itself.
func (s *modelSocket) dawdle() {
	n := s.rng.IntN(200)
	news := n < 3 && s.client.w.spend()
	name := modelRooms[s.rng.IntN(len(modelRooms))]
	s.mu.Unlock()
	defer s.mu.Lock()
	switch {
	case news:
		s.client.w.say(name)
	case n < 6:
		<-time.After(time.Millisecond)
	case n < 30:
		runtime.Gosched()
	}
}

func (s *modelSocket) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.misuse = "finished twice"
	}
	s.closed = true
}

// release has it take everything from now on, but for a few writes.
func (s *modelSocket) release(nibbles, echoes int) {
	s.mu.Lock()
	s.released, s.nibbles, s.echoes = true, nibbles, echoes
	s.mu.Unlock()
	s.unblock()
}

// listen takes what comes through a connection, piece by piece.
func (e *earshot) listen(c *modelClient, conn net.Conn, wait func()) {
	buf := make([]byte, 8<<10)
	for {
		n, err := conn.Read(buf)
		e.mu.Lock()
		before := len(e.in.frames)
		e.in.feed(buf[:n], time.Now(), c.w.log.begun.Load())
		c.heard(e.in.frames[before:])
		e.mu.Unlock()
		if err != nil {
			return
		}
		wait()
	}
}

// heard is told of whole frames: pings are answered, and a close.
func (c *modelClient) heard(frames []modelFrame) {
	for _, f := range frames {
		switch f.op {
		case wire.OpPing:
			if !c.mute {
				go c.write(frame(pong, string(f.payload)))
			}
		case wire.OpClose:
			if c.polite {
				go c.hangUp()
			}
		case wire.OpContinuation, wire.OpText, wire.OpBinary, wire.OpPong:
		}
	}
}
