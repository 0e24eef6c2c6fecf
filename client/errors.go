package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrClosed is what [Subscription.Next] returns after [Subscription.Close].
var ErrClosed = errors.New("subscription is closed")

// Error is a refusal by the server, or by the client in the server's words. It is the
// same for a gRPC call, a message of a stream, a frame on the socket and a refused
// WebSocket handshake.
type Error struct {
	Code    codes.Code // what kind of failure
	Reason  string     // the machine word, such as INVALID_ROOM; may be empty
	Message string     // for people
	Field   string     // which field of the request is wrong; may be empty
	Room    string     // of a refused subscribe: the room

	// RetryAfter is how long the server asks to wait before the next try; 0 means
	// that it does not say.
	RetryAfter time.Duration

	status int // of a refused handshake: the HTTP status
}

// Error returns the text for people, with the room and the machine word.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Room != "" {
		fmt.Fprintf(&b, "subscribe %q: ", e.Room)
	}
	b.WriteString(e.Message)
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	} else {
		fmt.Fprintf(&b, " (%s)", e.Code)
	}
	return b.String()
}

// Is makes errors.Is(err, context.DeadlineExceeded) and context.Canceled true for the
// codes of the same name.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case codes.DeadlineExceeded:
		return target == context.DeadlineExceeded
	case codes.Canceled:
		return target == context.Canceled
	default:
		return false
	}
}

// CloseError says that the server closed the socket. As an error of
// [Subscription.Next] it means that reconnecting would not help.
type CloseError struct {
	Code       int           // RFC 6455 §7.4, or 4000 and above: docs/protocol.md; 1006 = the connection broke
	Reason     string        // the machine word that begins the close reason; may be empty
	Text       string        // the whole close reason
	RetryAfter time.Duration // retry_ms of the close reason; 0 if it has none
}

// Error returns the code and the reason.
func (e *CloseError) Error() string {
	if e.Text == "" {
		return "socket closed with " + strconv.Itoa(e.Code)
	}
	return fmt.Sprintf("socket closed with %d: %s", e.Code, e.Text)
}

// newCloseError reads a close reason: a machine word, then perhaps retry_ms=N.
func newCloseError(code int, text string) *CloseError {
	e := &CloseError{Code: code, Text: text}
	for i, word := range strings.Fields(text) {
		if i == 0 {
			e.Reason = strings.TrimSuffix(word, ":")
		}
		if n, ok := strings.CutPrefix(word, "retry_ms="); ok {
			e.RetryAfter = milliseconds(n)
		}
	}
	return e
}

func milliseconds(digits string) time.Duration {
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// rpcError turns what grpc returned into an [*Error].
func rpcError(err error) *Error {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	return statusError(st)
}

// statusError reads a status with its details.
func statusError(st *status.Status) *Error {
	e := &Error{Code: st.Code(), Message: st.Message()}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Reason = d.GetReason()
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				e.Field = v[0].GetField()
			}
		}
	}
	return e
}

// finalError marks an error after which a subscription must not dial again.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }
