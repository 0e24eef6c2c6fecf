package wire

import (
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// appendServerProtobuf appends a binary server frame.
func appendServerProtobuf(dst []byte, f *roomcastv1.ServerFrame) []byte {
	options := proto.MarshalOptions{Deterministic: true}
	frame, err := options.MarshalAppend(dst, f)
	if err != nil { // text that is not UTF-8
		frame, _ = options.MarshalAppend(dst, ErrorFrame(f.GetId(), &room.Error{Kind: room.Internal}))
	}
	return frame
}
