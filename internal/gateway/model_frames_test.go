package gateway

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/wire"
)

// modelFrame is one frame that a client got whole.
type modelFrame struct {
	op      wire.Opcode
	payload []byte
	at      time.Time // when its first byte was taken
	begun   int64     // how many events rooms had been told, or were being told, by then
}

// splitter cuts what a client gets into frames. It is strict: what is not as RFC 6455
// and wire want it is a fault, and nothing is taken after it.
type splitter struct {
	rest   []byte
	at     time.Time // of rest's first byte, as begun
	begun  int64
	frames []modelFrame
	fault  string
	closed bool // a close frame was the last
}

func (s *splitter) feed(p []byte, at time.Time, begun int64) {
	if len(p) == 0 || s.fault != "" {
		return
	}
	if s.closed {
		s.fault = fmt.Sprintf("%d bytes after the close frame", len(p))
		return
	}
	if len(s.rest) == 0 {
		s.at, s.begun = at, begun
	}
	s.rest = append(s.rest, p...)
	for len(s.rest) >= 2 {
		header, size, fault := frameSize(s.rest)
		if s.fault = fault; fault != "" || header == 0 || len(s.rest) < header+size {
			return
		}
		f := modelFrame{op: wire.Opcode(s.rest[0] & 0xF), payload: append([]byte(nil), s.rest[header:header+size]...), at: s.at, begun: s.begun}
		s.frames = append(s.frames, f)
		s.rest = s.rest[header+size:]
		s.at, s.begun = at, begun
		if s.closed = f.op == wire.OpClose; s.closed && len(s.rest) > 0 {
			s.fault = fmt.Sprintf("%q after the close frame", s.rest)
			return
		}
	}
}

// frameSize reads a server's header; header is 0 while it is not whole.
func frameSize(b []byte) (header, size int, fault string) {
	op := wire.Opcode(b[0] & 0xF)
	switch {
	case b[0]&0x70 != 0, b[0]&fin == 0, b[1]&0x80 != 0:
		return 0, 0, fmt.Sprintf("header % x is no whole, unmasked frame's", b[:2])
	case op != wire.OpText && op != wire.OpBinary && op != wire.OpClose && op != wire.OpPing && op != wire.OpPong:
		return 0, 0, fmt.Sprintf("opcode %d", op)
	}
	least := 0
	switch header, size = 2, int(b[1]); {
	case size == 126 && len(b) < 4, size == 127 && len(b) < 10:
		return 0, 0, ""
	case size == 126:
		header, size, least = 4, int(binary.BigEndian.Uint16(b[2:])), 126
	case size == 127:
		header, size, least = 10, int(binary.BigEndian.Uint64(b[2:])), 1<<16
	}
	if size < least || size < 0 || size > 1<<20 || op.IsControl() && size > wire.MaxControlPayload {
		return 0, 0, fmt.Sprintf("header % x: %d bytes of opcode %d", b[:header], size, op)
	}
	return header, size, ""
}

// decodeServer reads a frame of either format.
func decodeServer(f modelFrame) (*roomcastv1.ServerFrame, error) {
	out := &roomcastv1.ServerFrame{}
	if f.op == wire.OpBinary {
		err := proto.Unmarshal(f.payload, out)
		if len(out.ProtoReflect().GetUnknown()) > 0 {
			err = fmt.Errorf("unknown fields %x", out.ProtoReflect().GetUnknown())
		}
		return out, err
	}
	var in struct {
		ID      uint32
		Message *struct {
			Room, ID, Text string
			Replayed       bool
		}
		Gap           *roomcastv1.Gap
		Welcome       *roomcastv1.ServerFrame_Welcome
		Subscribed    *roomcastv1.ServerFrame_Subscribed
		Unsubscribed  *roomcastv1.ServerFrame_Unsubscribed
		Published     *roomcastv1.ServerFrame_Published
		Pong          *roomcastv1.ServerFrame_Pong
		Error         *roomcastv1.ServerFrame_Error
		Reconnect     *struct{}
		Authenticated *struct{}
	}
	if err := json.Unmarshal(f.payload, &in); err != nil {
		return nil, err
	}
	out.Id = in.ID
	switch {
	case in.Message != nil:
		m := in.Message
		out.Frame = &roomcastv1.ServerFrame_Message{Message: &roomcastv1.Message{
			Room: m.Room, Id: m.ID, Replayed: m.Replayed, Payload: &roomcastv1.Message_Text{Text: m.Text},
		}}
	case in.Gap != nil:
		out.Frame = &roomcastv1.ServerFrame_Gap{Gap: in.Gap}
	case in.Welcome != nil:
		out.Frame = &roomcastv1.ServerFrame_Welcome_{Welcome: in.Welcome}
	case in.Subscribed != nil:
		out.Frame = &roomcastv1.ServerFrame_Subscribed_{Subscribed: in.Subscribed}
	case in.Unsubscribed != nil:
		out.Frame = &roomcastv1.ServerFrame_Unsubscribed_{Unsubscribed: in.Unsubscribed}
	case in.Published != nil:
		out.Frame = &roomcastv1.ServerFrame_Published_{Published: in.Published}
	case in.Pong != nil:
		out.Frame = &roomcastv1.ServerFrame_Pong_{Pong: in.Pong}
	case in.Error != nil:
		out.Frame = &roomcastv1.ServerFrame_Error_{Error: in.Error}
	case in.Reconnect != nil:
		out.Frame = &roomcastv1.ServerFrame_Reconnect_{}
	case in.Authenticated != nil:
		out.Frame = &roomcastv1.ServerFrame_Authenticated_{}
	default:
		return nil, fmt.Errorf("no frame is known in %s", f.payload)
	}
	return out, nil
}
