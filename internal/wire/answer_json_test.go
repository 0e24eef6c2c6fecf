package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// TestAnswersLikeProtoJSON fills every field of every frame but messages, those too
// that the proto file may get one day, and compares with protojson.
func TestAnswersLikeProtoJSON(t *testing.T) {
	t.Parallel()
	frames := (&roomcastv1.ServerFrame{}).ProtoReflect().Descriptor().Oneofs().ByName("frame").Fields()
	for i := range frames.Len() {
		field := frames.Get(i)
		if field.Name() == "message" {
			continue // its JSON stands inline
		}
		t.Run(string(field.Name()), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(5, uint64(i)))
			for range 300 {
				frame := &roomcastv1.ServerFrame{Id: rnd.Uint32() * rnd.Uint32N(2)}
				fill(rnd, frame.ProtoReflect().Mutable(field).Message())
				requireLikeProtoJSON(t, frame)
			}
		})
	}
}

func requireLikeProtoJSON(t *testing.T, frame *roomcastv1.ServerFrame) {
	t.Helper()
	text, err := protojson.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	got, want := JSON.EncodeServer(frame), compact(text)
	// protojson does not escape what JavaScript cannot read.
	if !bytes.Contains(got, []byte(`\u202`)) && !bytes.Equal(got, want) {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	read := &roomcastv1.ServerFrame{}
	if err := protojson.Unmarshal(got, read); err != nil {
		t.Fatalf("protojson cannot read %s: %v", got, err)
	}
	if !proto.Equal(frame, read) {
		t.Fatalf("%s does not mean %v", got, frame)
	}
}

// fill sets most fields of a message.
func fill(rnd *rand.Rand, m protoreflect.Message) {
	if m.Descriptor().FullName() == "google.protobuf.Timestamp" {
		m.Set(m.Descriptor().Fields().ByName("seconds"), protoreflect.ValueOfInt64(rnd.Int64N(1<<34)-1<<33))
		if nanos := []int32{0, 120_000_000, 7_000, 999_999_999}[rnd.IntN(4)]; nanos != 0 {
			m.Set(m.Descriptor().Fields().ByName("nanos"), protoreflect.ValueOfInt32(nanos))
		}
		return
	}
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		switch {
		case rnd.IntN(4) == 0:
		case field.IsList():
			list := m.Mutable(field).List()
			for range rnd.IntN(3) {
				if field.Message() != nil {
					fill(rnd, list.AppendMutable().Message())
				} else {
					list.Append(randomScalar(rnd, field))
				}
			}
		case field.Message() != nil:
			fill(rnd, m.Mutable(field).Message())
		default:
			m.Set(field, randomScalar(rnd, field))
		}
	}
}

func randomScalar(rnd *rand.Rand, field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(randomText(rnd, 30))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(rnd.Uint32() >> rnd.IntN(32))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rnd.IntN(2) == 0)
	default: // a kind that no frame has yet: Set will tell
		return protoreflect.Value{}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(uint32(1), "orders:42", "e.1.a", "\u2028\x00\"\\")
	f.Add(uint32(0), "", "\xff", "é")
	f.Fuzz(func(t *testing.T, id uint32, a, b, c string) {
		frame := &roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Error_{Error: &roomcastv1.ServerFrame_Error{
			Code: a, Reason: b, Message: c, RetryMs: id,
		}}}
		if _, err := protojson.Marshal(frame); err == nil {
			requireLikeProtoJSON(t, frame)
			return
		}
		want := &roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Error_{Error: &roomcastv1.ServerFrame_Error{
			Code: "INTERNAL", Reason: "INTERNAL", Message: "internal error",
		}}}
		for name, format := range formats() {
			if got := format.EncodeServer(frame); !bytes.Equal(got, format.EncodeServer(want)) {
				t.Fatalf("%s: got %q for %v, want an INTERNAL error", name, got, frame)
			}
		}
	})
}
