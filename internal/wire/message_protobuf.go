package wire

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/roomcast/roomcast/internal/room"
)

// frameMessage is the number of the field ServerFrame.message.
const frameMessage protowire.Number = 5

// The fields of Message, proto/roomcast/v1/message.proto. All tags have one byte.
const (
	messageRoom     protowire.Number = 1
	messageID       protowire.Number = 2
	messageEvent    protowire.Number = 3
	messageRawJSON  protowire.Number = 5
	messageText     protowire.Number = 6
	messageData     protowire.Number = 7
	messageTime     protowire.Number = 8
	messageReplayed protowire.Number = 9
)

// The fields of google.protobuf.Timestamp.
const (
	timeSeconds protowire.Number = 1
	timeNanos   protowire.Number = 2
)

// appendMessageProtobuf appends the binary server frame of one message, its fields
// in the order in which Go's proto.Marshal writes them: the payload, a oneof, last.
// Names and texts are UTF-8 already: they came out of a protobuf record.
func appendMessageProtobuf(dst []byte, m *room.Message, replayed bool) []byte {
	dst = protowire.AppendTag(dst, frameMessage, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(messageSize(m, replayed))) //nolint:gosec // a sum of lengths
	dst = appendName(dst, messageRoom, string(m.Room))
	dst = appendName(dst, messageID, m.ID)
	dst = appendName(dst, messageEvent, m.Event)
	if !m.Time.IsZero() {
		dst = protowire.AppendTag(dst, messageTime, protowire.BytesType)
		dst = append(dst, byte(timestampSize(m.Time))) //nolint:gosec // at most 17
		dst = appendTimestamp(dst, m.Time)
	}
	if replayed {
		dst = append(protowire.AppendTag(dst, messageReplayed, protowire.VarintType), 1)
	}
	dst = protowire.AppendTag(dst, payloadField(m.Payload.Kind), protowire.BytesType)
	return protowire.AppendBytes(dst, m.Payload.Bytes)
}

// sizeProtobuf is exactly what [appendMessageProtobuf] appends.
func sizeProtobuf(m *room.Message, replayed bool) int {
	return 1 + protowire.SizeBytes(messageSize(m, replayed))
}

// messageSize returns how long the Message is.
func messageSize(m *room.Message, replayed bool) int {
	n := nameSize(string(m.Room)) + nameSize(m.ID) + nameSize(m.Event)
	if !m.Time.IsZero() {
		n += 1 + protowire.SizeBytes(timestampSize(m.Time))
	}
	if replayed {
		n += 2
	}
	return n + 1 + protowire.SizeBytes(len(m.Payload.Bytes))
}

// payloadField is the field that holds a payload of this kind. It is there even if
// it is empty, so that readers can tell the kinds apart.
func payloadField(kind room.PayloadKind) protowire.Number {
	switch kind {
	case room.JSON:
		return messageRawJSON
	case room.Data:
		return messageData
	default:
		return messageText
	}
}

// appendName appends a string field, nothing if it is empty.
func appendName(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func nameSize(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s))
}

func appendTimestamp(dst []byte, t time.Time) []byte {
	seconds, nanos := timestamp(t)
	if seconds != 0 {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, timeSeconds, protowire.VarintType), seconds)
	}
	if nanos != 0 {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, timeNanos, protowire.VarintType), nanos)
	}
	return dst
}

func timestampSize(t time.Time) int {
	n := 0
	seconds, nanos := timestamp(t)
	if seconds != 0 {
		n += 1 + protowire.SizeVarint(seconds)
	}
	if nanos != 0 {
		n += 1 + protowire.SizeVarint(nanos)
	}
	return n
}

// timestamp returns the two varints of a Timestamp; of a time before 1970 the
// seconds are the two's complement.
func timestamp(t time.Time) (seconds, nanos uint64) {
	return uint64(t.Unix()), uint64(t.Nanosecond()) //nolint:gosec // as protobuf wants it
}
