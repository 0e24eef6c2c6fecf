package client

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// Message is one message to publish. Room is required; the zero Body is an empty text.
type Message struct {
	Room  string // 1 to 200 bytes of UTF-8 without control characters and without '*'
	Event string // a word for subscribers to tell kinds apart, at most 64 bytes
	Body  Body

	// MessageID is the idempotency key, at most 128 bytes: the same key in the same
	// room within 2 minutes is stored once. Empty means a random one, so that the
	// client's own retries are safe; give one to make the program's retries safe too.
	MessageID string

	// TTL is how long the message is worth delivering, at least 1 s; 0 means as long
	// as the room's history.
	TTL time.Duration

	// ExcludeUser names the user whose sockets do not get the message.
	ExcludeUser string
}

// Result says what became of a message.
type Result struct {
	MessageID string // the idempotency key that was used
	ID        string // the message's id, the same that subscribers see
	Stored    bool   // the log has it; false in an ephemeral room
	Duplicate bool   // the room had the MessageID already, perhaps by a try of ours whose answer was lost; ID is the first one's

	// Err is set by [Stream] and [Publisher.PublishAll] for a message that was not
	// published: an [*Error]. The stream goes on. Publish returns its error instead.
	Err error
}

// Kind says what the bytes of a [Body] are.
type Kind uint8

// The kinds of bodies.
const (
	KindText Kind = iota // valid UTF-8
	KindJSON             // one JSON value
	KindData             // any bytes
)

// String returns "text", "json" or "data".
func (k Kind) String() string {
	switch k {
	case KindJSON:
		return "json"
	case KindData:
		return "data"
	default:
		return "text"
	}
}

// Body is the content of a message. The zero Body is an empty text.
type Body struct {
	kind  Kind
	bytes []byte
	err   error // of JSON: v has no JSON form
}

// JSON makes a body of v's JSON form. If v has none, publishing the message fails.
func JSON(v any) Body {
	b, err := json.Marshal(v)
	return Body{kind: KindJSON, bytes: b, err: err}
}

// RawJSON makes a body of a JSON text, which subscribers get unchanged. The server
// checks it. The bytes must not be changed afterwards.
func RawJSON(b []byte) Body { return Body{kind: KindJSON, bytes: b} }

// Text makes a body of a text in UTF-8.
func Text(s string) Body { return Body{kind: KindText, bytes: []byte(s)} }

// Data makes a body of any bytes. They must not be changed afterwards.
func Data(b []byte) Body { return Body{kind: KindData, bytes: b} }

// Kind says what the bytes are.
func (b Body) Kind() Kind { return b.kind }

// Bytes returns the content: of JSON its text as it was published. The caller must
// not change it.
func (b Body) Bytes() []byte { return b.bytes }

// Decode stores the value of a JSON body in v, as [json.Unmarshal] does.
func (b Body) Decode(v any) error {
	if b.kind != KindJSON {
		return fmt.Errorf("the body is %s, not json", b.kind)
	}
	return json.Unmarshal(b.bytes, v)
}

// identified returns the message with a key.
func (m Message) identified() Message {
	if m.MessageID == "" {
		m.MessageID = rand.Text()
	}
	return m
}

// request is the message as gRPC sends it. Its error is an [*Error]: what protobuf
// cannot carry would otherwise break a whole stream.
func (m Message) request() (*roomcastv1.PublishRequest, error) {
	texts := []struct{ field, text string }{
		{"room", m.Room}, {"event", m.Event}, {"message_id", m.MessageID}, {"exclude_user", m.ExcludeUser},
	}
	for _, t := range texts {
		if !utf8.ValidString(t.text) {
			return nil, invalid(t.field, "INVALID_TEXT", "is not valid UTF-8")
		}
	}
	req := &roomcastv1.PublishRequest{
		Room:        m.Room,
		Event:       m.Event,
		MessageId:   m.MessageID,
		ExcludeUser: m.ExcludeUser,
	}
	if m.TTL != 0 {
		req.Ttl = durationpb.New(m.TTL)
	}
	switch {
	case m.Body.err != nil:
		return nil, invalid("json", "INVALID_JSON", m.Body.err.Error())
	case m.Body.kind == KindJSON:
		req.Payload = &roomcastv1.PublishRequest_RawJson{RawJson: m.Body.bytes}
	case m.Body.kind == KindData:
		req.Payload = &roomcastv1.PublishRequest_Data{Data: m.Body.bytes}
	case !utf8.Valid(m.Body.bytes):
		return nil, invalid("text", "INVALID_TEXT", "is not valid UTF-8")
	default:
		req.Payload = &roomcastv1.PublishRequest_Text{Text: string(m.Body.bytes)}
	}
	return req, nil
}

func invalid(field, reason, message string) *Error {
	return &Error{Code: codes.InvalidArgument, Reason: reason, Field: field, Message: field + " " + message}
}

// result is the server's answer to the message with that key.
func result(messageID string, resp *roomcastv1.PublishResponse) Result {
	return Result{
		MessageID: messageID,
		ID:        resp.GetId(),
		Stored:    resp.GetStored(),
		Duplicate: resp.GetDuplicate(),
	}
}
