package bench

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/wire"
)

// frame judges a frame that is no message of this run. Few come, so they are parsed.
func (s *socket) frame(f frame) error {
	var server roomcastv1.ServerFrame
	if err := decodeServer(f, &server); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	l := s.lane.load
	p, room := l.problems, l.rooms[s.room]
	switch body := server.GetFrame().(type) {
	case *roomcastv1.ServerFrame_Welcome_:
	case *roomcastv1.ServerFrame_Message: // of somebody else, before this run
	case *roomcastv1.ServerFrame_Subscribed_:
		s.subscribed = true
	case *roomcastv1.ServerFrame_Gap:
		p.note(&p.gaps, "gap in %s: %s", room, body.Gap.GetReason())
	case *roomcastv1.ServerFrame_Error_:
		if !s.subscribed {
			return fmt.Errorf("refused: %s (%s)", body.Error.GetMessage(), body.Error.GetReason())
		}
		p.note(&p.unexpected, "error frame in %s: %s", room, body.Error.GetReason())
	default:
		p.note(&p.unexpected, "%T in %s", body, room)
	}
	return nil
}

func decodeServer(f frame, into *roomcastv1.ServerFrame) error {
	if f.op == wire.OpBinary {
		return proto.Unmarshal(f.payload, into)
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(f.payload, into)
}
