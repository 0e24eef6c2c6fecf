package wire

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// maxValueDepth is how deep JSON may nest to be shown as a google.protobuf.Value.
// A level costs up to three protobuf messages, and readers other than Go's refuse
// more than 100.
const maxValueDepth = 32

// PublishPayload returns the body of a gRPC publish; none is an empty text. The
// bytes are the request's own. Raw JSON and text are not checked here but by
// [room.Publication.Check]. The error is of kind Invalid and names "json": a Value
// that is no JSON, such as NaN or one with nothing set.
func PublishPayload(req *roomcastv1.PublishRequest) (room.Payload, error) {
	switch p := req.GetPayload().(type) {
	case *roomcastv1.PublishRequest_Json:
		return valuePayload(p.Json, "json")
	case *roomcastv1.PublishRequest_RawJson:
		return room.Payload{Kind: room.JSON, Bytes: p.RawJson}, nil
	case *roomcastv1.PublishRequest_Text:
		return room.Payload{Kind: room.Text, Bytes: []byte(p.Text)}, nil
	case *roomcastv1.PublishRequest_Data:
		return room.Payload{Kind: room.Data, Bytes: p.Data}, nil
	default:
		return room.Payload{}, nil
	}
}

// FramePayload is [PublishPayload] for a socket's publish; its error names
// "publish.json".
func FramePayload(req *roomcastv1.ClientFrame_Publish) (room.Payload, error) {
	switch p := req.GetPayload().(type) {
	case *roomcastv1.ClientFrame_Publish_Json:
		return valuePayload(p.Json, "publish.json")
	case *roomcastv1.ClientFrame_Publish_RawJson:
		return room.Payload{Kind: room.JSON, Bytes: p.RawJson}, nil
	case *roomcastv1.ClientFrame_Publish_Text:
		return room.Payload{Kind: room.Text, Bytes: []byte(p.Text)}, nil
	case *roomcastv1.ClientFrame_Publish_Data:
		return room.Payload{Kind: room.Data, Bytes: p.Data}, nil
	default:
		return room.Payload{}, nil
	}
}

func valuePayload(v *structpb.Value, field string) (room.Payload, error) {
	if v == nil {
		return room.Payload{}, room.Invalidf(room.ReasonInvalidJSON, field, "has no value")
	}
	text, err := protojson.Marshal(v)
	if err != nil {
		e := room.Invalidf(room.ReasonInvalidJSON, field, "is no JSON value: it has a part without a value, or a number that is NaN or infinite")
		e.Err = err
		return room.Payload{}, e
	}
	return room.Payload{Kind: room.JSON, Bytes: compact(text)}, nil
}

// MessageProto returns the public form of a message. With raw, JSON stays text as
// it was published; without, it becomes a google.protobuf.Value for people, or stays
// raw where a Value cannot hold it: numbers beyond doubles, a name twice in an
// object, half surrogates, nesting deeper than 32. Raw bytes are m's own.
func MessageProto(m *room.Message, raw bool) *roomcastv1.Message {
	p := &roomcastv1.Message{Room: string(m.Room), Id: m.ID, Event: m.Event}
	if !m.Time.IsZero() {
		p.Time = timestamppb.New(m.Time)
	}
	switch m.Payload.Kind {
	case room.JSON:
		p.Payload = &roomcastv1.Message_RawJson{RawJson: m.Payload.Bytes}
		if !raw {
			ForPeople(p)
		}
	case room.Data:
		p.Payload = &roomcastv1.Message_Data{Data: m.Payload.Bytes}
	default:
		p.Payload = &roomcastv1.Message_Text{Text: string(bytes.ToValidUTF8(m.Payload.Bytes, []byte("\uFFFD")))}
	}
	return p
}

// ForPeople makes a JSON body of a socket's message a Value, as [MessageProto] does.
func ForPeople(m *roomcastv1.Message) {
	if raw, ok := m.GetPayload().(*roomcastv1.Message_RawJson); ok {
		if value := jsonValue(raw.RawJson); value != nil {
			m.Payload = &roomcastv1.Message_Json{Json: value}
		}
	}
}

// jsonValue returns text as a Value, or nil if a Value cannot hold it.
func jsonValue(text []byte) *structpb.Value {
	if room.JSONDepth(text) > maxValueDepth {
		return nil
	}
	value := &structpb.Value{}
	if err := protojson.Unmarshal(text, value); err != nil {
		return nil
	}
	return value
}

// roomMessage is the way back from [MessageProto] of a message with raw JSON.
func roomMessage(p *roomcastv1.Message) *room.Message {
	m := &room.Message{
		Room:    room.Name(p.GetRoom()),
		ID:      p.GetId(),
		Event:   p.GetEvent(),
		Payload: room.Payload{Kind: room.JSON, Bytes: p.GetRawJson()},
	}
	if p.GetTime() != nil {
		m.Time = p.GetTime().AsTime()
	}
	return m
}

// compact takes out the spaces that protojson puts in at random so that nobody
// depends on them. text must be valid JSON.
func compact(text []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(text))
	if err := json.Compact(&b, text); err != nil {
		return text
	}
	return b.Bytes()
}
