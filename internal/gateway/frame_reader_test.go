package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/wire"
)

const testLimit = 70_000 // of a message, in bytes

// First bytes of frames.
const (
	fin      = 0x80
	text     = byte(wire.OpText)
	binaryOp = byte(wire.OpBinary)
	more     = byte(wire.OpContinuation)
	closeOp  = fin | byte(wire.OpClose)
	ping     = fin | byte(wire.OpPing)
	pong     = fin | byte(wire.OpPong)
)

// frame builds a client's frame: minimal length, masked.
func frame(first byte, payload string) string {
	b := wire.AppendHeader(nil, 0, len(payload))
	b[0] = first
	b[1] |= 0x80
	mask := [4]byte{0x37, 0xFA, 0x21, 0x3D}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

func closeFrame(code uint16, reason string) string {
	return frame(closeOp, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// outcome is all that can be seen of a reader.
type outcome struct {
	Events  []string
	Err     string
	Partial bool
	Frames  uint64
}

// recorder writes down what a reader hands on.
type recorder struct{ events []string }

func (r *recorder) onMessage(op opcode, payload []byte) error {
	r.events = append(r.events, fmt.Sprintf("message %d %q", op, payload))
	return nil
}

func (r *recorder) onPing(payload []byte) error {
	r.events = append(r.events, fmt.Sprintf("ping %q", payload))
	return nil
}

func (r *recorder) onPong(payload []byte) error {
	r.events = append(r.events, fmt.Sprintf("pong %q", payload))
	return nil
}

func (r *recorder) onClose(code uint16, reason string) error {
	r.events = append(r.events, fmt.Sprintf("close %d %q", code, reason))
	return nil
}

// feed reads data in pieces whose sizes next gives.
func feed(limit int, data string, next func() int) outcome {
	r, rec := newFrameReader(limit), &recorder{}
	var err error
	for rest := data; rest != "" && err == nil; {
		n := min(next(), len(rest))
		err = r.Feed([]byte(rest[:n]), rec)
		rest = rest[n:]
	}
	o := outcome{Events: rec.events, Partial: r.Partial(), Frames: r.frames}
	if err != nil {
		o.Err = err.Error()
	}
	return o
}

func atOnce(data string) outcome { return feed(testLimit, data, func() int { return len(data) }) }

func requireSame(t *testing.T, how string, want, got outcome) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s differs (-want +got):\n%s", how, diff)
	}
}

// requireSplitInvariant reads data byte by byte and in random pieces.
func requireSplitInvariant(t *testing.T, data string, seed uint64) {
	t.Helper()
	want := atOnce(data)
	requireSame(t, "byte by byte", want, feed(testLimit, data, func() int { return 1 }))
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 5 {
		largest := 1 + rnd.IntN(300)
		requireSame(t, "in random pieces", want, feed(testLimit, data, func() int { return 1 + rnd.IntN(largest) }))
	}
}

func TestFrameReader(t *testing.T) {
	t.Parallel()
	for name, tc := range frameCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := atOnce(tc.data)
			if !strings.HasPrefix(got.Err, tc.err) || (got.Err == "") != (tc.err == "") {
				t.Errorf("got error %q, want %q", got.Err, tc.err)
			}
			if diff := cmp.Diff(tc.events, got.Events); diff != "" {
				t.Errorf("events differ (-want +got):\n%s", diff)
			}
			if got.Partial != tc.partial {
				t.Errorf("got partial %v, want %v", got.Partial, tc.partial)
			}
			requireSplitInvariant(t, tc.data, 1)
		})
	}
}

// TestFailsFast: a fault is told with the byte that shows it, RFC 6455 §8.1, §10.4.
func TestFailsFast(t *testing.T) {
	t.Parallel()
	head := func(first, second byte, length ...byte) string {
		return string(append([]byte{first, second}, length...))
	}
	for name, tc := range map[string]struct {
		data string
		code uint16
	}{
		"reserved bit":              {head(fin|0x40|text, 0x80), statusProtocolError},
		"no mask":                   {head(fin|text, 1), statusProtocolError},
		"length before mask":        {head(fin|text, 0xFF, 0, 0, 0, 0, 0, 1, 0x11, 0x71), statusTooBig},
		"largest length":            {head(fin|binaryOp, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255), statusTooBig},
		"too long in fragments":     {frame(text, strings.Repeat("x", testLimit)) + head(more, 0x81), statusTooBig},
		"bad byte early in text":    {frame(fin|text, "ab\xc0"+strings.Repeat("x", 50))[:6+3], statusInvalidPayload},
		"bad second byte":           {frame(fin|text, "\xed\xa0"+strings.Repeat("x", 50))[:6+2], statusInvalidPayload},
		"too high a rune":           {frame(fin|text, "\xf4\x90"+strings.Repeat("x", 50))[:6+2], statusInvalidPayload},
		"bad rune after a fragment": {frame(text, "\xf0\x9f") + frame(more, "x"), statusInvalidPayload},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newFrameReader(testLimit)
			last := len(tc.data) - 1
			if err := r.Feed([]byte(tc.data[:last]), &recorder{}); err != nil {
				t.Fatalf("got %v before the last byte, want none", err)
			}
			err := r.Feed([]byte(tc.data[last:]), &recorder{})
			fault, ok := errors.AsType[*closeError](err)
			if !ok || fault.code != tc.code {
				t.Fatalf("got %v, want code %d", err, tc.code)
			}
			if again := r.Feed([]byte(frame(ping, "")), &recorder{}); !errors.Is(again, err) {
				t.Errorf("got %v afterwards, want the same error", again)
			}
			if r.message != nil || r.Partial() {
				t.Error("a failed reader keeps a buffer or waits for more, want neither")
			}
		})
	}
}

// stopper fails at the first thing it gets.
type stopper struct{ recorder }

var errStop = errors.New("stop")

func (s *stopper) onPing(payload []byte) error {
	return errors.Join(s.recorder.onPing(payload), errStop)
}

func TestHandlerErrorStops(t *testing.T) {
	t.Parallel()
	r, s := newFrameReader(testLimit), &stopper{}
	data := frame(fin|text, "a") + frame(ping, "1") + frame(fin|text, "b")
	if err := r.Feed([]byte(data), s); !errors.Is(err, errStop) {
		t.Fatalf("got %v, want the handler's error", err)
	}
	if err := r.Feed([]byte(data), s); !errors.Is(err, errStop) {
		t.Fatalf("got %v afterwards, want the handler's error", err)
	}
	if diff := cmp.Diff([]string{`message 1 "a"`, `ping "1"`}, s.events); diff != "" {
		t.Errorf("events differ (-want +got):\n%s", diff)
	}
}

func TestReasonsFitCloseFrames(t *testing.T) {
	t.Parallel()
	for name, tc := range frameCases() {
		r := newFrameReader(testLimit)
		fault, ok := errors.AsType[*closeError](r.Feed([]byte(tc.data), &recorder{}))
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(fault.reason, " ")
		if len(fault.reason) > 123 || word == "" || word != strings.ToUpper(word) {
			t.Errorf("%s: got reason %q, want a machine word first and at most 123 bytes", name, fault.reason)
		}
	}
}

// TestIdleReaderHoldsNothing: between messages there is no buffer, however the last
// ones came.
func TestIdleReaderHoldsNothing(t *testing.T) {
	t.Parallel()
	r, rec := newFrameReader(testLimit), &recorder{}
	if r.message != nil || r.control != nil {
		t.Error("a new reader holds a buffer, want none")
	}
	data := frame(text, "abc") + frame(ping, "12345") + frame(more, "") + frame(fin|more, "d") + frame(fin|binaryOp, strings.Repeat("x", 5000))
	for i := range len(data) {
		if err := r.Feed([]byte{data[i]}, rec); err != nil {
			t.Fatal(err)
		}
		if i < len(data)-1 && i > 0 && !r.Partial() && (r.message != nil || r.control != nil) {
			t.Fatalf("a buffer is held at byte %d between messages, want none", i)
		}
	}
	if r.message != nil || r.control != nil || r.Partial() {
		t.Error("an idle reader holds a buffer or waits for more, want neither")
	}
	// 10,000 idle sockets are what Roomcast is for: a reader costs two cache lines and a bit.
	if size := unsafe.Sizeof(*r); size > 152 {
		t.Errorf("got %d bytes a reader, want at most 152", size)
	}
}

// TestPromiseCostsNothing: a buffer grows with what came, not with what was announced.
func TestPromiseCostsNothing(t *testing.T) {
	t.Parallel()
	r := newFrameReader(1 << 30)
	if err := r.Feed([]byte{fin | binaryOp, 0xFF, 0, 0, 0, 0, 0x3F, 0, 0, 0, 1, 2, 3, 4, 'x'}, &recorder{}); err != nil {
		t.Fatal(err)
	}
	if n := cap(r.message); n > 64 || !r.Partial() {
		t.Errorf("got a buffer of %d bytes (partial %v), want a small one", n, r.Partial())
	}
}

// aliasing checks that payloads are handed on where they are.
type aliasing struct {
	recorder
	p      []byte
	copied bool
}

func (a *aliasing) onMessage(_ opcode, payload []byte) error {
	a.copied = &payload[0] != &a.p[len(a.p)-len(payload)]
	return nil
}

func TestWholeMessageIsNotCopied(t *testing.T) {
	t.Parallel()
	p := []byte(frame(ping, "x") + frame(fin|text, "hello"))
	a := &aliasing{p: p, copied: true}
	if err := newFrameReader(testLimit).Feed(p, a); err != nil || a.copied {
		t.Errorf("got error %v, copied %v, want neither", err, a.copied)
	}
}

// nothing takes everything and keeps nothing.
type nothing struct{}

func (nothing) onMessage(opcode, []byte) error { return nil }
func (nothing) onPing([]byte) error            { return nil }
func (nothing) onPong([]byte) error            { return nil }
func (nothing) onClose(uint16, string) error   { return nil }

func TestSmallMessageAllocatesNothing(t *testing.T) { //nolint:paralleltest // allocations are counted
	r := newFrameReader(testLimit)
	data := frame(fin|text, `{"id":6,"ping":{}}`) + frame(pong, "1")
	p := make([]byte, len(data))
	n := testing.AllocsPerRun(100, func() {
		copy(p, data)
		if err := r.Feed(p, nothing{}); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func TestFramesAreCounted(t *testing.T) {
	t.Parallel()
	data := frame(text, "") + strings.Repeat(frame(more, ""), 1000) + strings.Repeat(frame(pong, ""), 500)
	if got := atOnce(data); got.Frames != 1501 || got.Events == nil || !got.Partial {
		t.Errorf("got %d frames, partial %v, want 1501, true", got.Frames, got.Partial)
	}
}

// TestCompletedStandsStillWhileStalled: pings do not prolong the time for a message.
func TestCompletedStandsStillWhileStalled(t *testing.T) {
	t.Parallel()
	r := newFrameReader(testLimit)
	for i, step := range []struct {
		data string
		want uint64
	}{
		{frame(ping, "") + frame(fin|text, "a") + frame(fin|text, "b")[:3], 2},
		{frame(fin|text, "b")[3:] + frame(text, "c"), 3},
		{frame(ping, "") + frame(more, "") + frame(pong, "x"), 3},
		{frame(fin|more, ""), 4},
	} {
		if err := r.Feed([]byte(step.data), nothing{}); err != nil || r.completed != step.want {
			t.Errorf("step %d: got %d completed, error %v, want %d", i, r.completed, err, step.want)
		}
	}
}

func BenchmarkFrameReader(b *testing.B) {
	for _, size := range []int{20, 256, 4096, 65536} {
		for _, split := range []int{0, 1400} {
			b.Run(fmt.Sprintf("size=%d/split=%d", size, split), func(b *testing.B) {
				data := []byte(frame(fin|text, strings.Repeat("x", size)))
				p := make([]byte, len(data))
				r := newFrameReader(testLimit)
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					copy(p, data)
					step := len(p)
					if split > 0 {
						step = split
					}
					for piece := range slices.Chunk(p, step) {
						if err := r.Feed(piece, nothing{}); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// TestUnmask compares the 8-bytes-at-a-time way with the definition, RFC 6455 §5.3.
func TestUnmask(t *testing.T) {
	t.Parallel()
	for length := range 40 {
		for at := range uint8(4) {
			r := &frameReader{header: [14]byte{2: 0x37, 3: 0xFA, 4: 0x21, 5: 0x3D}, headerLen: 6, maskAt: at}
			got := bytes.Repeat([]byte{0xA5}, length)
			want := slices.Clone(got)
			for i := range want {
				want[i] ^= r.header[2+(int(at)+i)%4]
			}
			r.unmask(got)
			if !bytes.Equal(got, want) || int(r.maskAt) != (int(at)+length)%4 {
				t.Fatalf("length %d at %d: got % x, want % x", length, at, got, want)
			}
		}
	}
}
