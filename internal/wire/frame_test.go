package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// body checks the header of a finished frame and returns what follows it.
func body(t *testing.T, f Format, frame []byte) []byte {
	t.Helper()
	if frame[0] != finBit|byte(f.Opcode()) {
		t.Fatalf("frame begins with %x", frame[0])
	}
	header, n := 2, uint64(frame[1])
	switch n {
	case 126:
		header, n = 4, uint64(binary.BigEndian.Uint16(frame[2:]))
	case 127:
		header, n = 10, binary.BigEndian.Uint64(frame[2:])
	}
	if uint64(len(frame)-header) != n {
		t.Fatalf("header says %d bytes, %d follow", n, len(frame)-header)
	}
	return frame[header:]
}

func TestMessageFrame(t *testing.T) {
	t.Parallel()
	for f := range Format(Formats) {
		for _, size := range []int{0, 40, 200, 70_000} { // headers of 2, 4 and 10 bytes
			for _, replayed := range []bool{false, true} {
				m := &room.Message{Room: "r", Payload: room.Payload{Bytes: bytes.Repeat([]byte("x"), size)}}
				got := body(t, f, MessageFrame(f, m, replayed))
				if want := f.AppendMessage(nil, m, replayed); !bytes.Equal(got, want) {
					t.Errorf("format %d, size %d: got %q, want %q", f, size, got, want)
				}
			}
		}
	}
}

func TestServerFrame(t *testing.T) {
	t.Parallel()
	for f := range Format(Formats) {
		for name, frame := range answers() {
			if got, want := body(t, f, ServerFrame(f, frame)), f.EncodeServer(frame); !bytes.Equal(got, want) {
				t.Errorf("format %d, %s: got %q, want %q", f, name, got, want)
			}
		}
	}
}

func TestFramesAllocateOnce(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	for f := range Format(Formats) {
		for name, payload := range payloads() {
			m := &room.Message{Room: "orders:42", ID: "abc.123456.1z", Event: "paid", Payload: payload, Time: stored}
			for _, replayed := range []bool{false, true} {
				if n := testing.AllocsPerRun(100, func() { MessageFrame(f, m, replayed) }); n != 1 {
					t.Errorf("format %d, %s: got %v allocations a message, want 1", f, name, n)
				}
			}
		}
		for name, frame := range answers() {
			if n := testing.AllocsPerRun(100, func() { ServerFrame(f, frame) }); n != 1 {
				t.Errorf("format %d, %s: got %v allocations an answer, want 1", f, name, n)
			}
		}
	}
}

// answers is what every client gets.
func answers() map[string]*roomcastv1.ServerFrame {
	return map[string]*roomcastv1.ServerFrame{
		"welcome": {Frame: &roomcastv1.ServerFrame_Welcome_{Welcome: &roomcastv1.ServerFrame_Welcome{
			Connection: "0123456789abcdef", User: "ann", Node: "n1", PingMs: 25000, Version: "v1.2.3",
		}}},
		"subscribed": {Id: 1, Frame: &roomcastv1.ServerFrame_Subscribed_{Subscribed: &roomcastv1.ServerFrame_Subscribed{
			Room: "orders:42", Position: "yeylqwvb.3.1ald05w",
		}}},
		"unsubscribed": {Id: 2, Frame: &roomcastv1.ServerFrame_Unsubscribed_{Unsubscribed: &roomcastv1.ServerFrame_Unsubscribed{
			Room: "orders:42",
		}}},
		"published": {Id: 3, Frame: &roomcastv1.ServerFrame_Published_{Published: &roomcastv1.ServerFrame_Published{
			Id: "yeylqwvb.3.1ald05w", Stored: true,
		}}},
		"authenticated": {Id: 5, Frame: &roomcastv1.ServerFrame_Authenticated_{Authenticated: &roomcastv1.ServerFrame_Authenticated{
			Expires: timestamppb.New(stored),
		}}},
		"pong": {Id: 6, Frame: &roomcastv1.ServerFrame_Pong_{Pong: &roomcastv1.ServerFrame_Pong{}}},
		"gap": {Frame: &roomcastv1.ServerFrame_Gap{Gap: &roomcastv1.Gap{
			Room: "orders:42", After: "yeylqwvb.3.1ald05w", Reason: "TRUNCATED", Position: "yeylqwvb.9.",
		}}},
		"error": ErrorFrame(7, room.Invalidf(room.ReasonInvalidRoom, "subscribe.room", "is empty")),
	}
}

// names of formats in benchmarks.
func formats() map[string]Format { return map[string]Format{"json": JSON, "protobuf": Protobuf} }

// BenchmarkMessageFrame has bodies of 128 bytes.
func BenchmarkMessageFrame(b *testing.B) {
	for format, f := range formats() {
		for name, payload := range map[string]room.Payload{
			"json": {Kind: room.JSON, Bytes: []byte(`{"text":"` + strings.Repeat("x", 117) + `"}`)},
			"text": {Kind: room.Text, Bytes: []byte(strings.Repeat("x", 128))},
			"said": {Kind: room.Text, Bytes: []byte(strings.Repeat("say \"é\"\n", 14) + "to")},
			"data": {Kind: room.Data, Bytes: make([]byte, 128)},
		} {
			b.Run("format="+format+"/payload="+name, func(b *testing.B) {
				m := &room.Message{Room: "orders:42", ID: "yeylqwvb.3.1ald05w", Event: "paid", Payload: payload, Time: stored}
				b.ReportAllocs()
				for b.Loop() {
					MessageFrame(f, m, false)
				}
			})
		}
	}
}

func BenchmarkServerFrame(b *testing.B) {
	for format, f := range formats() {
		for name, frame := range answers() {
			b.Run("format="+format+"/frame="+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ServerFrame(f, frame)
				}
			})
		}
	}
}

// TestReadServerFrame: what was finished is read back, whatever its header's length.
func TestReadServerFrame(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 50, 200, 70_000} {
		m := &room.Message{Room: "a", ID: "e.1.7", Payload: room.Payload{Kind: room.Data, Bytes: bytes.Repeat([]byte("x"), size)}}
		f, err := ReadServerFrame(MessageFrame(Protobuf, m, true))
		if err != nil {
			t.Fatal(err)
		}
		got := f.GetMessage()
		if got.GetId() != m.ID || !got.GetReplayed() || !bytes.Equal(got.GetData(), m.Payload.Bytes) {
			t.Errorf("%d bytes: read back as %d bytes of message %s", size, len(got.GetData()), got.GetId())
		}
	}
	for _, short := range []string{"", "\x82", "\x82\x7e\x00"} {
		if f, err := ReadServerFrame([]byte(short)); err == nil && f.GetFrame() != nil {
			t.Errorf("%q: read as %v", short, f)
		}
	}
}
