package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// world is a load whose sockets are fed by hand.
type world struct {
	*load
	written bytes.Buffer // by the sockets: pongs
}

// Write and Close make it every socket's connection.
func (w *world) Write(b []byte) (int, error) { return w.written.Write(b) }
func (w *world) Close() error                { return nil }

func newWorld(t testing.TB, cfg Load) *world {
	t.Helper()
	cfg.RoomPrefix = "bench-"
	if err := cfg.normalize(); err != nil {
		t.Fatal(err)
	}
	w := &world{load: newLoad(cfg, clock{time.Now()}, 1, &problems{})}
	for _, s := range w.sockets {
		s.conn, s.subscribed = w, true
	}
	w.measure()
	return w
}

// publish makes messages and returns their frames as a node would write them.
func (w *world) publish(t testing.TB, count int) (frames [][]byte) {
	t.Helper()
	for range count {
		slot, ok := w.window.tryAcquire()
		if !ok {
			t.Fatal("the window is full")
		}
		req := w.next(slot, w.clock.now()).req
		frames = append(frames, wire.MessageFrame(wire.JSON, &room.Message{
			Room: room.Name(req.GetRoom()), ID: "e.1.c", Payload: room.Payload{Kind: room.Text, Bytes: []byte(req.GetText())}, Time: time.Now(),
		}, false))
	}
	return frames
}

// feed lets a socket read bytes in one piece.
func (w *world) feed(s *socket, b []byte) error {
	s.lane.mu.Lock()
	defer s.lane.mu.Unlock()
	defer s.lane.flush()
	return s.read(append(bytes.Clone(s.rest), b...), w.clock.now())
}

func (w *world) mustFeed(t testing.TB, s *socket, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if err := w.feed(s, f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestErrorsAreFound: what a socket reads by hand, and what the report says of it.
func TestErrorsAreFound(t *testing.T) {
	t.Parallel()
	gap := wire.Frame(wire.OpText, []byte(`{"gap":{"room":"bench-0","after":"e.1.c","reason":"OVERFLOW"}}`))
	odd := wire.Frame(wire.OpText, []byte(`{"reconnect":{"withinMs":20000,"reason":"DRAINING"}}`))
	foreign := wire.Frame(wire.OpText, []byte(`{"message":{"room":"bench-0","id":"e.1.c","json":{"a":1}}}`))
	binary, err := proto.Marshal(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Gap{Gap: &roomcastv1.Gap{Room: "bench-0"}}})
	if err != nil {
		t.Fatal(err)
	}
	binaryGap := wire.Frame(wire.OpBinary, binary)
	type frames = [][]byte
	tests := map[string]struct {
		publishers int
		read       func(f frames) [2]frames // of three messages, by each of two sockets
		want       Errors
	}{
		"a good run":                {1, func(f frames) [2]frames { return [2]frames{f, f} }, Errors{}},
		"a message of others":       {1, func(f frames) [2]frames { return [2]frames{f, append(frames{foreign}, f...)} }, Errors{}},
		"a hole":                    {1, func(f frames) [2]frames { return [2]frames{f, {f[0], f[2]}} }, Errors{Lost: 1, Unfinished: 1}},
		"the last is missing":       {1, func(f frames) [2]frames { return [2]frames{f, f[:2]} }, Errors{Lost: 1, Unfinished: 1}},
		"nothing came":              {1, func(f frames) [2]frames { return [2]frames{f, nil} }, Errors{Lost: 3, Unfinished: 3}},
		"again":                     {1, func(f frames) [2]frames { return [2]frames{f, {f[0], f[1], f[1], f[2]}} }, Errors{Duplicated: 1}},
		"out of order":              {1, func(f frames) [2]frames { return [2]frames{f, {f[1], f[0], f[2]}} }, Errors{Reordered: 1}},
		"calls that overlap":        {64, func(f frames) [2]frames { return [2]frames{{f[1], f[0], f[2]}, {f[1], f[0], f[2]}} }, Errors{}},
		"sockets that do not agree": {64, func(f frames) [2]frames { return [2]frames{{f[1], f[0], f[2]}, f} }, Errors{Reordered: 1}},
		"a gap":                     {1, func(f frames) [2]frames { return [2]frames{f, append(frames{gap}, f...)} }, Errors{Gaps: 1}},
		"a gap in protobuf":         {1, func(f frames) [2]frames { return [2]frames{f, append(frames{binaryGap}, f...)} }, Errors{Gaps: 1}},
		"an odd frame":              {1, func(f frames) [2]frames { return [2]frames{f, append(frames{odd}, f...)} }, Errors{Unexpected: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, Load{Rooms: 1, Sockets: 2, InFlight: 4, Publishers: test.publishers, Payload: 64})
			for i, read := range test.read(w.publish(t, 3)) {
				w.mustFeed(t, w.sockets[i], read...)
			}
			w.problems.unfinished.Store(int64(w.window.giveUp()))
			got := w.problems.errors(w.audit())
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Errors{}, "Examples")); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if got.Any() != (test.want.Lost+test.want.Duplicated+test.want.Reordered+test.want.Gaps+test.want.Unexpected > 0) {
				t.Errorf("Any is %t", got.Any())
			}
		})
	}
}

// TestClosedSocket: the messages in flight and those after it do not wait for a socket
// that closed, and what it did not get is not called lost: it is one closed socket.
func TestClosedSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Load{Rooms: 1, Sockets: 2, InFlight: 4, Publishers: 1, Payload: 64})
	frames := w.publish(t, 2)
	w.mustFeed(t, w.sockets[0], frames...)
	w.mustFeed(t, w.sockets[1], frames[0])
	closing := wire.Frame(wire.OpClose, append(binary.BigEndian.AppendUint16(nil, 4502), "TOO_SLOW"...))
	err := w.feed(w.sockets[1], closing)
	if err == nil || !strings.Contains(err.Error(), "4502: TOO_SLOW") {
		t.Errorf("got %v, want the close frame's code and reason", err)
	}
	w.sockets[1].end(err)
	w.sockets[1].end(err)
	if !w.window.idle() {
		t.Error("a message waits for a socket that has closed")
	}
	w.mustFeed(t, w.sockets[0], w.publish(t, 1)...)
	if !w.window.idle() {
		t.Error("a message waits for a socket that had closed")
	}
	if got := w.problems.errors(w.audit()); got.Closed != 1 || got.Lost != 0 {
		t.Errorf("got %+v, want one closed socket", got)
	}
}

// TestRefusedIsNotLost: a message whose publish failed is counted as that alone.
func TestRefusedIsNotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Load{Rooms: 1, Sockets: 1, InFlight: 4, Publishers: 4, Payload: 64})
	slot, _ := w.window.tryAcquire()
	w.refused(w.next(slot, 0), errors.New("no"))
	w.mustFeed(t, w.sockets[0], w.publish(t, 1)...)
	if got := w.problems.errors(w.audit()); got.Refused != 1 || got.Lost != 0 || got.Reordered != 0 || !w.window.idle() {
		t.Errorf("got %+v, idle %t, want one refused message", got, w.window.idle())
	}
}

// TestAnySplit: the frames of a connection mean the same wherever a read ends.
func TestAnySplit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, Load{Rooms: 1, Sockets: 1, InFlight: 20, Publishers: 1, Payload: 32 + random.IntN(300)})
		var stream []byte
		for i, f := range w.publish(t, 20) {
			stream = append(stream, f...)
			if i%7 == 0 {
				stream = append(stream, wire.Frame(wire.OpPing, []byte("ping"))...)
			}
		}
		for s := w.sockets[0]; len(stream) > 0; {
			n := min(len(stream), 1+random.IntN(1+random.IntN(400)))
			w.mustFeed(t, s, stream[:n])
			stream = stream[n:]
		}
		pong := append([]byte{0x8A, 0x84, 0, 0, 0, 0}, "ping"...)
		if got := w.problems.errors(w.audit()); got.Any() || !w.window.idle() || !bytes.Equal(w.written.Bytes(), bytes.Repeat(pong, 3)) {
			t.Fatalf("seed %d: %+v, idle %t, wrote %q", seed, got, w.window.idle(), w.written.Bytes())
		}
		if all, last := w.latencies(); all.n != 20 || last.n != 20 {
			t.Fatalf("seed %d: %d deliveries and %d last ones measured, want 20", seed, all.n, last.n)
		}
	}
}

// TestNextFrame: every size of header, complete and one byte short.
func TestNextFrame(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, maxFrame} {
		b := wire.Frame(wire.OpBinary, make([]byte, n))
		f, size, err := nextFrame(append(b, 0x81))
		if err != nil || size != len(b) || len(f.payload) != n || f.op != wire.OpBinary {
			t.Errorf("%d bytes: got %d bytes in %d, %v", n, len(f.payload), size, err)
		}
		for _, short := range []int{len(b) - 1, min(9, len(b)-1), 1, 0} {
			if _, size, err := nextFrame(b[:short]); size != 0 || err != nil {
				t.Errorf("%d of %d bytes: got %d, %v, want to read on", short, len(b), size, err)
			}
		}
	}
	bad := map[string][]byte{
		"masked":    {0x81, 0x81, 0, 0, 0, 0, 'x'},
		"reserved":  {0xC1, 0},
		"fragment":  {0x01, 0},
		"too large": wire.AppendHeader(nil, wire.OpText, maxFrame+1),
	}
	for name, b := range bad {
		if _, _, err := nextFrame(b); !errors.Is(err, errFrame) {
			t.Errorf("%s: got %v, want a protocol error", name, err)
		}
	}
}

// TestMeasuredOnly: messages due outside the measurement are counted and not in the
// histograms.
func TestMeasuredOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Load{Rooms: 1, Sockets: 1, InFlight: 4, Publishers: 1, Payload: 64})
	w.from.Store(1 << 62)
	w.mustFeed(t, w.sockets[0], w.publish(t, 1)...)
	w.measure()
	inside := w.publish(t, 1)
	w.stopMeasuring()
	w.mustFeed(t, w.sockets[0], inside...)
	w.mustFeed(t, w.sockets[0], w.publish(t, 1)...)
	all, last := w.latencies()
	if all.n != 1 || last.n != 1 || w.counts().deliveries != 3 {
		t.Errorf("measured %d and %d of %d deliveries, want 1 of 3", all.n, last.n, w.counts().deliveries)
	}
}

// TestTakeAllocatesNothing pins the reader's hot path.
func TestTakeAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process's allocations
	w := newWorld(t, Load{Rooms: 1, Sockets: 1, InFlight: 1, Publishers: 1, Payload: 128})
	frames := make([][]byte, 101)
	for i := range frames {
		frames[i] = w.publish(t, 1)[0]
		w.window.giveUp()
	}
	s, n := w.sockets[0], 0
	allocs := testing.AllocsPerRun(len(frames)-1, func() {
		if err := s.read(frames[n], 1); err != nil {
			t.Error(err)
		}
		s.lane.flush()
		n++
	})
	if allocs != 0 || w.counts().deliveries != uint64(len(frames)) {
		t.Errorf("%g allocations a message, %d deliveries", allocs, w.counts().deliveries)
	}
}

// BenchmarkTake is what the load generator does with each message, 64 a read.
func BenchmarkTake(b *testing.B) {
	const batch = 64
	w := newWorld(b, Load{Rooms: 1, Sockets: 1, InFlight: batch, Publishers: 1, Payload: 128})
	stream := bytes.Join(w.publish(b, batch), nil)
	s := w.sockets[0]
	b.SetBytes(int64(len(stream)) / batch)
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		s.ledger = ledger{}
		if err := s.read(stream, 1); err != nil {
			b.Fatal(err)
		}
		s.lane.flush()
	}
}
