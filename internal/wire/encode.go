package wire

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// EncodeServer returns the JSON of a server frame: the canonical protobuf mapping
// without spaces, fields in the order of the proto file, the same bytes for the
// same frame; a message's raw_json stands inline as "json". A frame that has no
// JSON, such as one with text that is not UTF-8, is our fault and becomes an
// INTERNAL error frame with the same id, so that a request is always answered.
func EncodeServer(f *roomcastv1.ServerFrame) []byte {
	if m := f.GetMessage(); m != nil {
		if _, raw := m.GetPayload().(*roomcastv1.Message_RawJson); raw {
			return encodeRaw(f.GetId(), m)
		}
	}
	text, err := protojson.Marshal(f)
	if err != nil {
		text = []byte(`{"error":{"code":"INTERNAL","reason":"INTERNAL","message":"internal error"}}`)
		return withID(f.GetId(), text)
	}
	return compact(text)
}

func encodeRaw(id uint32, p *roomcastv1.Message) []byte {
	m := roomMessage(p)
	return withID(id, AppendMessage(make([]byte, 0, SizeHint(m)), m, p.GetReplayed()))
}

// withID puts a frame's id in front of its only member.
func withID(id uint32, frame []byte) []byte {
	if id == 0 {
		return frame
	}
	dst := strconv.AppendUint([]byte(`{"id":`), uint64(id), 10)
	return append(append(dst, ','), frame[1:]...)
}
