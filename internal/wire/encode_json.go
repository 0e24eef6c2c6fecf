package wire

import (
	"google.golang.org/protobuf/encoding/protojson"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// appendServerJSON appends a JSON server frame: what every socket gets is written by
// hand, what is rare by protojson.
func appendServerJSON(dst []byte, f *roomcastv1.ServerFrame) []byte {
	if m := f.GetMessage(); m != nil {
		if _, raw := m.GetPayload().(*roomcastv1.Message_RawJson); raw {
			return appendRaw(dst, f.GetId(), m)
		}
	}
	o := object{dst: append(dst, '{')}
	o.number("id", f.GetId())
	if o.answer(f) && !o.broken {
		return append(o.dst, '}')
	}
	text, err := protojson.Marshal(f)
	if err != nil { // text that is not UTF-8
		return appendServerJSON(dst, ErrorFrame(f.GetId(), &room.Error{Kind: room.Internal}))
	}
	return append(dst, compact(text)...)
}

// appendRaw appends a message whose JSON stands inline.
func appendRaw(dst []byte, id uint32, p *roomcastv1.Message) []byte {
	if id == 0 {
		return appendMessageJSON(dst, roomMessage(p), p.GetReplayed())
	}
	o := object{dst: append(dst, '{')}
	o.number("id", id)
	frame := appendMessageJSON(nil, roomMessage(p), p.GetReplayed())
	return append(append(o.dst, ','), frame[1:]...)
}
