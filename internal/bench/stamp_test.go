package bench

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// TestStampInFrames: a stamp that a message's text begins with is found in the frames
// of both formats, wherever the last one was.
func TestStampInFrames(t *testing.T) {
	t.Parallel()
	m := newMark()
	want := stamp{sent: int64(40 * time.Minute), seq: 1<<30 - 1, slot: maxInFlight - 1}
	text := bytes.Repeat([]byte("x"), 128)
	m.put(text, want)
	binary, err := proto.Marshal(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Message{Message: &roomcastv1.Message{
		Room: "bench-0", Id: "e.1.c", Payload: &roomcastv1.Message_Text{Text: string(text)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	frames := map[string][]byte{
		"json": wire.JSON.AppendMessage(nil, &room.Message{
			Room: "bench-0", ID: "e.1.c", Payload: room.Payload{Kind: room.Text, Bytes: text}, Time: time.Now(),
		}, false),
		"protobuf":     binary,
		"at its begin": text,
		"at its end":   append([]byte("frame"), text[:stampSize]...),
	}
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := 0
			for range 2 { // searched, then remembered
				got, ok := m.find(frame, &place)
				if !ok || got != want {
					t.Errorf("got %+v, %t, want %+v in %q", got, ok, want, frame)
				}
			}
			if !bytes.HasPrefix(frame[place:], m[:]) {
				t.Errorf("place is %d, where the mark is not", place)
			}
		})
	}
}

func TestNoStamp(t *testing.T) {
	t.Parallel()
	m := newMark()
	whole := make([]byte, stampSize)
	m.put(whole, stamp{sent: 1, seq: 2, slot: 3})
	other := newMark()
	otherRun := bytes.Clone(whole)
	copy(otherRun, other[:])
	digit := bytes.Clone(whole)
	digit[markSize] = 'w'
	tests := map[string][]byte{
		"nothing":            nil,
		"another run's":      otherRun,
		"cut off":            whole[:stampSize-1],
		"the mark alone":     m[:],
		"no digit":           digit,
		"an upper-case mark": bytes.ToUpper(whole),
	}
	for name, frame := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, place := range []int{0, 5, 1000} {
				if got, ok := m.find(frame, &place); ok {
					t.Errorf("found %+v in %q", got, frame)
				}
			}
		})
	}
}
