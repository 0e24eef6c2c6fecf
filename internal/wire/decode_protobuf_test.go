package wire

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

func binaryFrame(tb testing.TB, frame *roomcastv1.ClientFrame) []byte {
	tb.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(frame)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// TestDecodeClientFormatsAgree decodes every good JSON frame's binary twin.
func TestDecodeClientFormatsAgree(t *testing.T) {
	t.Parallel()
	for text, want := range goodFrames() {
		t.Run(text[:min(60, len(text))], func(t *testing.T) {
			t.Parallel()
			requireDecoded(t, binaryFrame(t, want), want)
		})
	}
}

func requireDecoded(t *testing.T, data []byte, want *roomcastv1.ClientFrame) {
	t.Helper()
	got, err := Protobuf.DecodeClient(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data) // the frame must not keep any of it
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("frame differs (-want +got):\n%s", diff)
	}
}

// field appends one length-delimited field.
func field(number protowire.Number, content ...byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// numbered appends a varint field.
func numbered(number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), value)
}

// The requests' fields, proto/roomcast/v1/socket.proto.
const (
	fieldSubscribe protowire.Number = 2
	fieldPublish   protowire.Number = 4
	fieldPing      protowire.Number = 7
)

func TestDecodeClientProtobuf(t *testing.T) {
	t.Parallel()
	roomR := field(1, 'r')
	for name, tc := range map[string]struct {
		data []byte
		want *roomcastv1.ClientFrame
	}{
		"a newer client's fields": {
			slices.Concat(numbered(1, 7), field(fieldSubscribe, slices.Concat(roomR, numbered(15, 1))...), field(99, 1, 2)),
			subscribeFrame(7, &roomcastv1.ClientFrame_Subscribe{Room: "r"}),
		},
		"the last request counts": {
			append(field(fieldPing), field(fieldSubscribe, roomR...)...),
			subscribeFrame(0, &roomcastv1.ClientFrame_Subscribe{Room: "r"}),
		},
		"one request in two parts": {
			append(field(fieldSubscribe, roomR...), field(fieldSubscribe, numbered(3, 1)...)...),
			subscribeFrame(0, &roomcastv1.ClientFrame_Subscribe{Room: "r", Presence: true}),
		},
		"the last id counts": {
			slices.Concat(numbered(1, 7), field(fieldSubscribe), numbered(1, 1<<32+8)),
			subscribeFrame(8, &roomcastv1.ClientFrame_Subscribe{}),
		},
		"a payload with nothing in it": {
			field(fieldPublish, field(2)...),
			publishFrame(&roomcastv1.ClientFrame_Publish{Payload: &roomcastv1.ClientFrame_Publish_Json{Json: &structpb.Value{}}}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireDecoded(t, tc.data, tc.want)
		})
	}
}

func TestDecodeClientProtobufRefuses(t *testing.T) {
	t.Parallel()
	const malformed = "is not a binary ClientFrame, or nests too deep"
	for name, tc := range map[string]struct {
		data []byte
		id   uint32
		msg  string
	}{
		"nothing":                     {nil, 0, "names no request"},
		"only an id":                  {numbered(1, 3), 3, "names no request"},
		"a request of a newer client": {append(numbered(1, 3), field(8)...), 3, "names no request"},
		"JSON":                        {[]byte(`{"id":1,"ping":{}}`), 0, malformed},
		"cut off":                     {append(numbered(1, 3), field(fieldSubscribe, 'a', 'b')[:3]...), 3, malformed},
		"id after the fault":          {append(field(fieldSubscribe, 0xFF), numbered(1, 3)...), 3, malformed},
		"id in a long tag":            {[]byte{0x88, 0x00, 5, 0xFF}, 5, malformed},
		"id of another type":          {append(field(1, 'x'), 0xFF), 0, malformed},
		"no UTF-8":                    {append(numbered(1, 3), field(fieldSubscribe, field(1, 0xFF)...)...), 3, malformed},
		"half a group":                {append(numbered(1, 3), protowire.AppendTag(nil, 9, protowire.StartGroupType)...), 3, malformed},
		"field 0":                     {[]byte{0, 0}, 0, malformed},
		"groups without end":          {bytes.Repeat(protowire.AppendTag(nil, 9, protowire.StartGroupType), 100_000), 0, malformed},
		"a body without end":          {binaryFrame(t, bodyOf(t, nested("[", "]", 2000))), 9, malformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frame, err := Protobuf.DecodeClient(tc.data)
			e, ok := errors.AsType[*room.Error](err)
			if !ok || e.Kind != room.Invalid || e.Reason != room.ReasonInvalidFrame {
				t.Fatalf("got error %#v, want INVALID_FRAME", err)
			}
			if e.Field != "frame" || e.Msg != tc.msg {
				t.Errorf("got %s %s, want frame %s", e.Field, e.Msg, tc.msg)
			}
			if !proto.Equal(frame, &roomcastv1.ClientFrame{Id: tc.id}) {
				t.Errorf("got frame %v, want nothing but id %d", frame, tc.id)
			}
		})
	}
}

func nested(begin, end string, depth int) string {
	return strings.Repeat(begin, depth) + "1" + strings.Repeat(end, depth)
}

// bodyOf is a publish of text as a google.protobuf.Value.
func bodyOf(tb testing.TB, text string) *roomcastv1.ClientFrame {
	tb.Helper()
	value := &structpb.Value{}
	if err := protojson.Unmarshal([]byte(text), value); err != nil {
		tb.Fatal(err)
	}
	frame := publishFrame(&roomcastv1.ClientFrame_Publish{Room: "r", Payload: &roomcastv1.ClientFrame_Publish_Json{Json: value}})
	frame.Id = 9
	return frame
}

// TestDecodeClientProtobufDepth: every body that may be published arrives, and one
// that is too deep is refused by name where it is a little so.
func TestDecodeClientProtobufDepth(t *testing.T) {
	t.Parallel()
	const deepest = room.MaxJSONDepth
	for name, tc := range map[string]struct {
		begin, end string
		depth      int
		decoded    bool
	}{
		"list":            {"[", "]", deepest, true},
		"list too deep":   {"[", "]", deepest + 1, true},
		"object":          {`{"":`, "}", deepest, true},
		"object too deep": {`{"":`, "}", deepest + 1, true},
		"object beyond":   {`{"":`, "}", deepest + 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := nested(tc.begin, tc.end, tc.depth)
			frame, err := Protobuf.DecodeClient(binaryFrame(t, bodyOf(t, text)))
			if (err == nil) != tc.decoded {
				t.Fatalf("got error %v, want decoded %v", err, tc.decoded)
			}
			if err != nil {
				return
			}
			payload, err := FramePayload(frame.GetPublish())
			if err != nil || string(payload.Bytes) != text {
				t.Fatalf("got %.40s (%v), want %.40s", payload.Bytes, err, text)
			}
			if publishable(payload) != (tc.depth <= deepest) {
				t.Errorf("depth %d: publishable %v", tc.depth, publishable(payload))
			}
		})
	}
}

// FuzzDecodeClientProtobuf holds DecodeClient to proto.Unmarshal.
func FuzzDecodeClientProtobuf(f *testing.F) {
	for _, frame := range goodFrames() {
		f.Add(binaryFrame(f, frame))
	}
	f.Add(binaryFrame(f, bodyOf(f, `{"a":[null,true,1.5,"x"]}`)))
	f.Add(append(numbered(1, 3), field(8)...))
	f.Add([]byte{0x88, 0x00, 5, 0xFF})
	f.Fuzz(func(t *testing.T, data []byte) {
		want := &roomcastv1.ClientFrame{}
		protoErr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, want)
		got, err := Protobuf.DecodeClient(data)
		if err != nil {
			e := room.AsError(err)
			if e.Reason != room.ReasonInvalidFrame || e.Field != "frame" {
				t.Fatalf("got refusal %#v of %x", e, data)
			}
			if protoErr == nil && want.GetRequest() == nil && got.GetId() != want.GetId() {
				t.Fatalf("%x: got id %d, want %d", data, got.GetId(), want.GetId())
			}
			if protoErr == nil && want.GetRequest() != nil && len(data) < maxNesting {
				t.Fatalf("got %v for %x, proto reads it", err, data)
			}
			return
		}
		if protoErr != nil || !proto.Equal(want, got) {
			t.Fatalf("%x: got %v, want %v (%v)", data, got, want, protoErr)
		}
		if _, isValue := got.GetPublish().GetPayload().(*roomcastv1.ClientFrame_Publish_Json); isValue {
			payload, err := FramePayload(got.GetPublish())
			if depth := room.JSONDepth(payload.Bytes); err == nil && depth > maxNesting {
				t.Fatalf("%x: the body nests %d deep", data, depth)
			}
		}
	})
}
