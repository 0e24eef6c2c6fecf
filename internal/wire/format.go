package wire

import (
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// Format is how frames are written on a socket: one for each subprotocol,
// docs/protocol.md §1. The zero Format is JSON.
type Format uint8

// The formats.
const (
	JSON     Format = iota // text frames: protobuf's canonical JSON mapping
	Protobuf               // binary frames
)

// Formats is how many there are, for arrays indexed by Format.
const Formats = 2

// FormatOf returns the format of a subprotocol; false if it is not served.
func FormatOf(subprotocol string) (Format, bool) {
	for f := range Format(Formats) {
		if f.Subprotocol() == subprotocol {
			return f, true
		}
	}
	return JSON, false
}

// Subprotocol returns the name that a client offers for the format.
func (f Format) Subprotocol() string {
	if f == Protobuf {
		return "roomcast.v1.protobuf"
	}
	return "roomcast.v1.json"
}

// Opcode returns what the format's frames are, and what a client's must be.
func (f Format) Opcode() Opcode {
	if f == Protobuf {
		return OpBinary
	}
	return OpText
}

// DecodeClient reads one client frame. Whether names, payloads and tokens are good is
// judged later. The frame keeps nothing of data.
//
// JSON is read strictly: names that are unknown or there twice, wrong types and text
// after the frame are errors. publish.json arrives as the RawJson payload, verbatim,
// so that no digit of a number is lost. Protobuf is read by protobuf's rules: the
// last of two requests counts, and fields that are unknown here are ignored. People
// write JSON, where an unknown name is most often a slip; protobuf's field numbers
// come from a compiler, so an unknown one means a client newer than this node, as in
// a gRPC request. What must not be ignored has to come as a new request: in both
// formats a frame without a request that is known here is an error.
//
// The error is a *room.Error of kind Invalid with ReasonInvalidFrame whose Field is
// "frame" or, in JSON, a path such as "subscribe.room". With it comes a frame that
// has nothing but the id, 0 if there is none to be found, so that the refusal can
// repeat it.
func (f Format) DecodeClient(data []byte) (*roomcastv1.ClientFrame, error) {
	if f == Protobuf {
		return decodeProtobuf(data)
	}
	return decodeJSON(data)
}

// EncodeServer returns a server frame, the same bytes for the same frame: in JSON
// without spaces, fields in the order of the proto file, a message's raw_json inline
// as "json". A frame that cannot be written, such as one with text that is not UTF-8,
// is our fault and becomes an INTERNAL error frame with the same id, so that a
// request is always answered.
func (f Format) EncodeServer(frame *roomcastv1.ServerFrame) []byte {
	return f.appendServer(nil, frame)
}

func (f Format) appendServer(dst []byte, frame *roomcastv1.ServerFrame) []byte {
	if f == Protobuf {
		return appendServerProtobuf(dst, frame)
	}
	return appendServerJSON(dst, frame)
}

// AppendMessage appends the server frame of one message. It is the hot path: written
// by hand, it allocates nothing but dst's growth and means the same as
// [Format.EncodeServer] of the same message. A JSON body is appended as it was
// published; it was validated then.
func (f Format) AppendMessage(dst []byte, m *room.Message, replayed bool) []byte {
	if f == Protobuf {
		return appendMessageProtobuf(dst, m, replayed)
	}
	return appendMessageJSON(dst, m, replayed)
}

// SizeHint returns how many bytes [Format.AppendMessage] will append, for the first
// allocation of dst: a few more than needed, or fewer where a name has quotes.
func (f Format) SizeHint(m *room.Message) int { return f.sizeHint(m, true) }

func (f Format) sizeHint(m *room.Message, replayed bool) int {
	if f == Protobuf {
		return sizeProtobuf(m, replayed)
	}
	return sizeJSON(m, replayed)
}
