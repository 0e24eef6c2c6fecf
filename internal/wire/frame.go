package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// answerHint is room for the header and the body of nearly every answer.
const answerHint = 256

// Frame returns one finished frame from the server: header and payload.
func Frame(opcode Opcode, payload []byte) []byte {
	frame := AppendHeader(make([]byte, 0, MaxHeader+len(payload)), opcode, len(payload))
	return append(frame, payload...)
}

// MessageFrame returns the finished frame of one message, in one allocation.
func MessageFrame(f Format, m *room.Message, replayed bool) []byte {
	buf := make([]byte, MaxHeader, MaxHeader+f.sizeHint(m, replayed))
	return finish(f, f.AppendMessage(buf, m, replayed))
}

// ServerFrame returns the finished frame of what [Format.EncodeServer] returns.
func ServerFrame(f Format, frame *roomcastv1.ServerFrame) []byte {
	buf := make([]byte, MaxHeader, answerHint)
	return finish(f, f.appendServer(buf, frame))
}

// ReadServerFrame reads a finished frame of the format [Protobuf] back, for those who
// pass it on elsewhere than to a socket. The result keeps nothing of frame.
func ReadServerFrame(frame []byte) (*roomcastv1.ServerFrame, error) {
	header := 2
	if len(frame) > 1 {
		switch frame[1] {
		case 126:
			header = 4
		case 127:
			header = MaxHeader
		}
	}
	f := &roomcastv1.ServerFrame{}
	if err := proto.Unmarshal(frame[min(header, len(frame)):], f); err != nil {
		return nil, fmt.Errorf("server frame: %w", err)
	}
	return f, nil
}

// finish writes the header of the body that begins at buf[MaxHeader], right before
// it, and returns both.
func finish(f Format, buf []byte) []byte {
	var space [MaxHeader]byte
	header := AppendHeader(space[:0], f.Opcode(), len(buf)-MaxHeader)
	start := MaxHeader - len(header)
	copy(buf[start:], header)
	return buf[start:]
}
