package wire

import (
	"encoding/base64"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// AppendMessage appends the JSON server frame of one message. It is the hot path:
// written by hand, it allocates nothing but dst's growth and means the same as
// [EncodeServer] of the same message. A JSON body is appended as it was published;
// it was validated then.
func AppendMessage(dst []byte, m *room.Message, replayed bool) []byte {
	dst = append(dst, `{"message":{"room":`...)
	dst = appendQuoted(dst, string(m.Room))
	if m.ID != "" {
		dst = appendQuoted(append(dst, `,"id":`...), m.ID)
	}
	if m.Event != "" {
		dst = appendQuoted(append(dst, `,"event":`...), m.Event)
	}
	dst = appendBody(append(dst, ','), m.Payload)
	if !m.Time.IsZero() {
		dst = appendTime(append(dst, `,"time":`...), m.Time)
	}
	if replayed {
		dst = append(dst, `,"replayed":true`...)
	}
	return append(dst, "}}"...)
}

// appendBody appends the member that holds the payload. It is there even if it is
// empty, so that readers can tell the kinds apart.
func appendBody(dst []byte, p room.Payload) []byte {
	switch p.Kind {
	case room.JSON:
		return append(append(dst, `"json":`...), p.Bytes...)
	case room.Data:
		dst = base64.StdEncoding.AppendEncode(append(dst, `"data":"`...), p.Bytes)
		return append(dst, '"')
	default:
		return appendQuoted(append(dst, `"text":`...), p.Bytes)
	}
}

// SizeHint returns about how many bytes [AppendMessage] will append, for the first
// allocation of dst.
func SizeHint(m *room.Message) int {
	const names = len(`{"message":{"room":"","id":"","event":"","json":"","time":"","replayed":true}}`)
	n := len(m.Payload.Bytes)
	if m.Payload.Kind == room.Data {
		n = base64.StdEncoding.EncodedLen(n)
	}
	return names + len(m.Room) + len(m.ID) + len(m.Event) + len(time.RFC3339Nano) + n
}
