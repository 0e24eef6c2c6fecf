package wire

import (
	"encoding/base64"

	"github.com/roomcast/roomcast/internal/room"
)

// appendMessageJSON appends the JSON server frame of one message.
func appendMessageJSON(dst []byte, m *room.Message, replayed bool) []byte {
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

// sizeJSON is about what [appendMessageJSON] appends.
func sizeJSON(m *room.Message, replayed bool) int {
	n := len(`{"message":{"room":"","json":"","time":""}}`) + len(m.Room) + len(maxTime)
	if m.ID != "" {
		n += len(`,"id":""`) + len(m.ID)
	}
	if m.Event != "" {
		n += len(`,"event":""`) + len(m.Event)
	}
	if replayed {
		n += len(`,"replayed":true`)
	}
	switch m.Payload.Kind {
	case room.JSON:
		return n + len(m.Payload.Bytes)
	case room.Data:
		return n + base64.StdEncoding.EncodedLen(len(m.Payload.Bytes))
	default:
		return n + quotedLen(m.Payload.Bytes)
	}
}
