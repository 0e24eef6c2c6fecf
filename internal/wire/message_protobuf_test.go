package wire

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// requireLikeProto holds the hand-written encoder to proto.Marshal.
func requireLikeProto(t *testing.T, m *room.Message, replayed bool) {
	t.Helper()
	p := MessageProto(m, true)
	p.Replayed = replayed
	frame := &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Message{Message: p}}
	got, want := Protobuf.AppendMessage([]byte("x"), m, replayed), Protobuf.EncodeServer(frame)
	if !bytes.Equal(got, append([]byte("x"), want...)) {
		read := &roomcastv1.ServerFrame{}
		err := proto.Unmarshal(got[1:], read)
		t.Fatalf("got %x, want %x (%v, -want +got):\n%s", got[1:], want, err, cmp.Diff(frame, read, protocmp.Transform()))
	}
	if n := sizeProtobuf(m, replayed); n != len(want) {
		t.Fatalf("size says %d, frame has %d bytes", n, len(want))
	}
	if n := Protobuf.SizeHint(m); n < len(want) || n > len(want)+3 {
		t.Fatalf("SizeHint says %d, frame has %d bytes", n, len(want))
	}
}

func TestAppendMessageLikeProtoMarshal(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		requireLikeProto(t, randomMessage(t, rnd), rnd.IntN(2) == 0)
	}
	big := bytes.Repeat([]byte("x"), 70_000)
	for name, m := range map[string]*room.Message{
		"empty":       {},
		"empty JSON":  {Room: "r", Payload: room.Payload{Kind: room.JSON}},
		"empty data":  {Room: "r", Payload: room.Payload{Kind: room.Data}},
		"127 bytes":   {Payload: room.Payload{Bytes: big[:125]}},
		"128 bytes":   {Payload: room.Payload{Bytes: big[:126]}},
		"large":       {Room: "r", ID: "1", Payload: room.Payload{Kind: room.Data, Bytes: big}},
		"epoch":       {Time: time.Unix(0, 0)},
		"nanoseconds": {Time: time.Unix(0, 1)},
		"before 1970": {Time: time.Unix(-1, 999_999_999)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireLikeProto(t, m, false)
			requireLikeProto(t, m, true)
		})
	}
}

func TestAppendMessageProtobufAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	for name, payload := range payloads() {
		m := &room.Message{Room: "orders:42", ID: "abc.123456.1z", Event: "paid\n\u2028é", Payload: payload, Time: stored}
		dst := make([]byte, 0, 4<<10)
		if n := testing.AllocsPerRun(100, func() { dst = Protobuf.AppendMessage(dst[:0], m, true) }); n != 0 {
			t.Errorf("%s: got %v allocations a message, want 0", name, n)
		}
	}
}

func FuzzAppendMessageProtobuf(f *testing.F) {
	f.Add("orders:42", "e.1.a", "paid", byte(0), []byte("text\u2028"), int64(0), int64(1), true)
	f.Add("r", "", "", byte(1), []byte(`{"a":[1.50,"\ud800"]}`), int64(1700000000), int64(999_999_999), false)
	f.Add("r", "\x00", "\"", byte(2), []byte{0xff}, int64(-1), int64(120_000), false)
	f.Fuzz(func(t *testing.T, name, id, event string, kind byte, body []byte, sec, nsec int64, replayed bool) {
		m := &room.Message{
			Room: room.Name(strings.ToValidUTF8(name, "?")), ID: strings.ToValidUTF8(id, "?"), Event: strings.ToValidUTF8(event, "?"),
			Time:    time.Unix(sec, nsec%1_000_000_000),
			Payload: room.Payload{Kind: room.PayloadKind(kind % 3), Bytes: body},
		}
		if publishable(m.Payload) {
			requireLikeProto(t, m, replayed)
		}
	})
}
