package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// frameID is the number of the field ClientFrame.id.
const frameID protowire.Number = 1

// maxNesting is how deep the messages of a client frame may nest: ClientFrame,
// Publish, and a google.protobuf.Value one level deeper than a body may be, so that
// a body that is too deep is refused by name. An object costs three messages: Struct,
// its entry and the Value in it.
const maxNesting = 3 + 3*(room.MaxJSONDepth+1)

// decodeProtobuf reads a client frame of the protobuf subprotocol.
func decodeProtobuf(data []byte) (*roomcastv1.ClientFrame, error) {
	frame := &roomcastv1.ClientFrame{}
	options := proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxNesting}
	if err := options.Unmarshal(data, frame); err != nil {
		e := (&fault{msg: "is not a binary ClientFrame, or nests too deep"}).asError()
		e.Err = err
		return &roomcastv1.ClientFrame{Id: findIDProtobuf(data)}, e
	}
	if frame.GetRequest() == nil {
		return &roomcastv1.ClientFrame{Id: frame.GetId()}, (&fault{msg: "names no request"}).asError()
	}
	return frame, nil
}

// findIDProtobuf looks for the id of a frame that cannot be decoded: the last one
// before what is broken.
func findIDProtobuf(data []byte) uint32 {
	var id uint32
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeField(data)
		if n < 0 {
			break
		}
		if field == frameID && kind == protowire.VarintType {
			_, _, tag := protowire.ConsumeTag(data)
			value, _ := protowire.ConsumeVarint(data[tag:])
			id = uint32(value) //nolint:gosec // protobuf cuts a uint32 off like this
		}
		data = data[n:]
	}
	return id
}
