package wire

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

func TestEncodeServer(t *testing.T) {
	t.Parallel()
	message := func(raw string) *roomcastv1.ServerFrame_Message {
		return &roomcastv1.ServerFrame_Message{Message: &roomcastv1.Message{
			Room: "r", Id: "1", Time: timestamppb.New(stored), Payload: &roomcastv1.Message_RawJson{RawJson: []byte(raw)},
		}}
	}
	for name, tc := range map[string]struct {
		frame *roomcastv1.ServerFrame
		want  string
	}{
		"welcome": {
			&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Welcome_{Welcome: &roomcastv1.ServerFrame_Welcome{
				Connection: "c", User: "u, v", Node: "n: 1", PingMs: 25000, Version: "dev",
			}}},
			`{"welcome":{"connection":"c","user":"u, v","node":"n: 1","pingMs":25000,"version":"dev"}}`,
		},
		"answer": {
			&roomcastv1.ServerFrame{Id: 1, Frame: &roomcastv1.ServerFrame_Subscribed_{Subscribed: &roomcastv1.ServerFrame_Subscribed{
				Room: "r", Position: "e.1.",
			}}},
			`{"id":1,"subscribed":{"room":"r","position":"e.1."}}`,
		},
		"empty answer": {
			&roomcastv1.ServerFrame{Id: 6, Frame: &roomcastv1.ServerFrame_Pong_{Pong: &roomcastv1.ServerFrame_Pong{}}},
			`{"id":6,"pong":{}}`,
		},
		"message with inline JSON": {
			&roomcastv1.ServerFrame{Frame: message(`{"n": 1.00}`)},
			`{"message":{"room":"r","id":"1","json":{"n": 1.00},"time":"2026-11-23T14:05:06.007Z"}}`,
		},
		"message with an id": {
			&roomcastv1.ServerFrame{Id: 9, Frame: message(`1`)},
			`{"id":9,"message":{"room":"r","id":"1","json":1,"time":"2026-11-23T14:05:06.007Z"}}`,
		},
		"text that is no UTF-8": {
			&roomcastv1.ServerFrame{Id: 3, Frame: &roomcastv1.ServerFrame_Subscribed_{Subscribed: &roomcastv1.ServerFrame_Subscribed{Room: "\xff"}}},
			`{"id":3,"error":{"code":"INTERNAL","reason":"INTERNAL","message":"internal error"}}`,
		},
		"empty": {&roomcastv1.ServerFrame{}, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 20 { // protojson's spaces are random per build; ours are none
				if got := string(JSON.EncodeServer(tc.frame)); got != tc.want {
					t.Fatalf("got  %s\nwant %s", got, tc.want)
				}
			}
		})
	}
}

func TestEncodeServerProtobuf(t *testing.T) {
	t.Parallel()
	frames := answers()
	frames["message"] = &roomcastv1.ServerFrame{Id: 9, Frame: &roomcastv1.ServerFrame_Message{Message: &roomcastv1.Message{
		Room: "r", Payload: &roomcastv1.Message_RawJson{RawJson: []byte(`{"n": 1.00}`)},
	}}}
	frames["empty"] = &roomcastv1.ServerFrame{}
	for name, want := range frames {
		got := &roomcastv1.ServerFrame{}
		if err := proto.Unmarshal(Protobuf.EncodeServer(want), got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: frame differs (-want +got):\n%s", name, diff)
		}
	}
	noText := &roomcastv1.ServerFrame{Id: 3, Frame: &roomcastv1.ServerFrame_Subscribed_{Subscribed: &roomcastv1.ServerFrame_Subscribed{Room: "\xff"}}}
	want := Protobuf.EncodeServer(ErrorFrame(3, &room.Error{Kind: room.Internal}))
	if got := Protobuf.EncodeServer(noText); !bytes.Equal(got, want) {
		t.Errorf("got %q for text that is no UTF-8, want %q", got, want)
	}
}

func TestErrorFrame(t *testing.T) {
	t.Parallel()
	secret := errors.New("secret")
	for name, tc := range map[string]struct {
		err  *room.Error
		want string
	}{
		"invalid": {
			room.Invalidf(room.ReasonInvalidRoom, "subscribe.room", "is empty"),
			`{"id":4,"error":{"code":"INVALID_ARGUMENT","reason":"INVALID_ROOM","message":"subscribe.room is empty","field":"subscribe.room"}}`,
		},
		"retry": {
			&room.Error{Kind: room.Exhausted, Reason: room.ReasonTooFast, Msg: "too fast", RetryAfter: time.Second + 1, Err: secret},
			`{"id":4,"error":{"code":"RESOURCE_EXHAUSTED","reason":"TOO_FAST","message":"too fast","retryMs":1001}}`,
		},
		"long retry": {
			&room.Error{Kind: room.Unavailable, Reason: room.ReasonBusUnavailable, Msg: "away", RetryAfter: math.MaxInt64},
			`{"id":4,"error":{"code":"UNAVAILABLE","reason":"BUS_UNAVAILABLE","message":"away","retryMs":4294967295}}`,
		},
		"internal": {
			&room.Error{Kind: room.Internal, Reason: room.ReasonLogFull, Field: "f", Msg: "secret", Err: secret},
			`{"id":4,"error":{"code":"INTERNAL","reason":"INTERNAL","message":"internal error"}}`,
		},
		"foreign": {
			room.AsError(secret),
			`{"id":4,"error":{"code":"INTERNAL","reason":"INTERNAL","message":"internal error"}}`,
		},
		"no UTF-8": {
			room.Invalidf(room.ReasonInvalidFrame, "a\xff", "is bad\xff"),
			`{"id":4,"error":{"code":"INVALID_ARGUMENT","reason":"INVALID_FRAME","message":"a` + "\uFFFD is bad\uFFFD" + `","field":"a` + "\uFFFD" + `"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(JSON.EncodeServer(ErrorFrame(4, tc.err))); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestCodeName(t *testing.T) {
	t.Parallel()
	for kind, want := range map[room.Kind]string{
		room.Internal: "INTERNAL", room.Invalid: "INVALID_ARGUMENT", room.Unauthenticated: "UNAUTHENTICATED",
		room.Denied: "PERMISSION_DENIED", room.Exhausted: "RESOURCE_EXHAUSTED", room.Unavailable: "UNAVAILABLE",
		room.Deadline: "DEADLINE_EXCEEDED", room.OutOfRange: "OUT_OF_RANGE", room.Precondition: "FAILED_PRECONDITION",
		room.Unimplemented: "UNIMPLEMENTED", room.Canceled: "CANCELLED", room.Kind(200): "INTERNAL",
	} {
		if got := CodeName(kind); got != want {
			t.Errorf("kind %d: got %s, want %s", kind, got, want)
		}
	}
}

func TestPublishPayload(t *testing.T) {
	t.Parallel()
	value := func(v any) *structpb.Value {
		p, err := structpb.NewValue(v)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	asJSON := func(v *structpb.Value) *roomcastv1.PublishRequest {
		return &roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Json{Json: v}}
	}
	for name, tc := range map[string]struct {
		req  *roomcastv1.PublishRequest
		want room.Payload
		bad  bool
	}{
		"none":     {req: &roomcastv1.PublishRequest{}, want: room.Payload{}},
		"value":    {req: asJSON(value(map[string]any{"b": 1.5, "a": []any{nil, "x, y", true}})), want: room.Payload{Kind: room.JSON, Bytes: []byte(`{"a":[null,"x, y",true],"b":1.5}`)}},
		"null":     {req: asJSON(value(nil)), want: room.Payload{Kind: room.JSON, Bytes: []byte(`null`)}},
		"NaN":      {req: asJSON(structpb.NewNumberValue(math.NaN())), bad: true},
		"infinite": {req: asJSON(structpb.NewNumberValue(math.Inf(1))), bad: true},
		"unset":    {req: asJSON(&structpb.Value{}), bad: true},
		"nil":      {req: asJSON(nil), bad: true},
		"raw": {
			req:  &roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_RawJson{RawJson: []byte("[1.0]")}},
			want: room.Payload{Kind: room.JSON, Bytes: []byte("[1.0]")},
		},
		"text": {
			req:  &roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Text{Text: "t"}},
			want: room.Payload{Kind: room.Text, Bytes: []byte("t")},
		},
		"data": {
			req:  &roomcastv1.PublishRequest{Payload: &roomcastv1.PublishRequest_Data{Data: []byte{1}}},
			want: room.Payload{Kind: room.Data, Bytes: []byte{1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := PublishPayload(tc.req)
			requirePayload(t, got, err, tc.want, tc.bad, "json")
			got, err = FramePayload(framePublish(tc.req))
			requirePayload(t, got, err, tc.want, tc.bad, "publish.json")
		})
	}
}

// framePublish is the socket's frame with the body of a gRPC request.
func framePublish(req *roomcastv1.PublishRequest) *roomcastv1.ClientFrame_Publish {
	switch p := req.GetPayload().(type) {
	case *roomcastv1.PublishRequest_Json:
		return &roomcastv1.ClientFrame_Publish{Payload: &roomcastv1.ClientFrame_Publish_Json{Json: p.Json}}
	case *roomcastv1.PublishRequest_RawJson:
		return &roomcastv1.ClientFrame_Publish{Payload: &roomcastv1.ClientFrame_Publish_RawJson{RawJson: p.RawJson}}
	case *roomcastv1.PublishRequest_Text:
		return &roomcastv1.ClientFrame_Publish{Payload: &roomcastv1.ClientFrame_Publish_Text{Text: p.Text}}
	case *roomcastv1.PublishRequest_Data:
		return &roomcastv1.ClientFrame_Publish{Payload: &roomcastv1.ClientFrame_Publish_Data{Data: p.Data}}
	default:
		return &roomcastv1.ClientFrame_Publish{}
	}
}

func requirePayload(t *testing.T, got room.Payload, err error, want room.Payload, bad bool, field string) {
	t.Helper()
	if bad {
		if e := room.AsError(err); err == nil || e.Kind != room.Invalid || e.Reason != room.ReasonInvalidJSON || e.Field != field {
			t.Fatalf("got error %#v, want INVALID_JSON of %s", err, field)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payload differs (-want +got):\n%s", diff)
	}
}

// TestMessageProtoKeepsRaw: what a Value cannot hold stays text.
func TestMessageProtoKeepsRaw(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for text, shown := range map[string]bool{
		`{"a":1}`:             true,
		`"[[["`:               true,
		nested(maxValueDepth): true,
		nested(33):            false,
		`1e400`:               false,
		`{"a":1,"a":2}`:       false,
		`"\ud800"`:            false,
	} {
		m := &room.Message{Room: "r", Payload: room.Payload{Kind: room.JSON, Bytes: []byte(text)}}
		if got := MessageProto(m, false).GetJson() != nil; got != shown {
			t.Errorf("%s: got a Value %v, want %v", text, got, shown)
		}
		want := &roomcastv1.Message{Room: "r", Payload: &roomcastv1.Message_RawJson{RawJson: []byte(text)}}
		if diff := cmp.Diff(want, MessageProto(m, true), protocmp.Transform()); diff != "" {
			t.Errorf("%s: raw message differs (-want +got):\n%s", text, diff)
		}
	}
}
