package wire

import (
	"math"
	"strings"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// CodeName returns the name of the gRPC status code that a kind of error has, such
// as "INVALID_ARGUMENT": what sockets see as `code`.
func CodeName(kind room.Kind) string {
	switch kind {
	case room.Invalid:
		return "INVALID_ARGUMENT"
	case room.Unauthenticated:
		return "UNAUTHENTICATED"
	case room.Denied:
		return "PERMISSION_DENIED"
	case room.Exhausted:
		return "RESOURCE_EXHAUSTED"
	case room.Unavailable:
		return "UNAVAILABLE"
	case room.Deadline:
		return "DEADLINE_EXCEEDED"
	case room.OutOfRange:
		return "OUT_OF_RANGE"
	case room.Precondition:
		return "FAILED_PRECONDITION"
	case room.NotFound:
		return "NOT_FOUND"
	case room.Unimplemented:
		return "UNIMPLEMENTED"
	case room.Canceled:
		return "CANCELLED"
	default:
		return "INTERNAL"
	}
}

// ErrorFrame returns the frame that refuses request id. The message never holds the
// error's cause; of an internal error nothing is told but that it is one. RetryMs
// is rounded up, so that a client does not come too early.
func ErrorFrame(id uint32, e *room.Error) *roomcastv1.ServerFrame {
	refusal := &roomcastv1.ServerFrame_Error{
		Code:    CodeName(e.Kind),
		RetryMs: milliseconds(e.RetryAfter),
	}
	if e.Kind == room.Internal {
		refusal.Reason = string(room.ReasonInternal)
		refusal.Message = "internal error"
	} else {
		shown := room.Error{Field: e.Field, Msg: e.Msg} // without the cause
		refusal.Reason = string(e.Reason)
		refusal.Message = strings.ToValidUTF8(shown.Error(), "\uFFFD")
		refusal.Field = strings.ToValidUTF8(e.Field, "\uFFFD")
	}
	return &roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Error_{Error: refusal}}
}

func milliseconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	ms := (d-1)/time.Millisecond + 1 // rounded up without overflow
	return uint32(min(ms, math.MaxUint32))
}
