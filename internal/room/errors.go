package room

import (
	"errors"
	"fmt"
	"time"
)

// Kind sorts errors by who must act. The edges (api, gateway) turn a kind into a
// gRPC or close code, each in one table.
type Kind uint8

// The kinds of errors.
const (
	Internal        Kind = iota // our fault; details are logged, not shown
	Invalid                     // the caller's input
	Unauthenticated             // no or bad credentials
	Denied                      // good credentials that do not allow this
	Exhausted                   // a limit; retry after a while
	Unavailable                 // a part is away; retry with the same message id
	Deadline                    // no answer in time; the outcome is unknown
	OutOfRange                  // a position that the log cannot prove
	Precondition                // the state of the room forbids it
	Unimplemented               // not served by this node
	Canceled                    // the caller went away
	NotFound                    // what is named is not there
)

// Reason is the machine word of an error: the ErrorInfo.reason in gRPC, the reason
// in a socket's error frame, and a metric label. The table is published in
// docs/protocol.md.
type Reason string

// The table of reasons.
const (
	ReasonInternal         Reason = "INTERNAL"
	ReasonInvalidRoom      Reason = "INVALID_ROOM"
	ReasonInvalidUser      Reason = "INVALID_USER"
	ReasonInvalidJSON      Reason = "INVALID_JSON"
	ReasonInvalidText      Reason = "INVALID_TEXT"
	ReasonInvalidEvent     Reason = "INVALID_EVENT"
	ReasonInvalidMessageID Reason = "INVALID_MESSAGE_ID"
	ReasonInvalidTTL       Reason = "INVALID_TTL"
	ReasonInvalidPosition  Reason = "INVALID_POSITION"
	ReasonInvalidPage      Reason = "INVALID_PAGE"
	ReasonInvalidFrame     Reason = "INVALID_FRAME"
	ReasonInvalidRequest   Reason = "INVALID_REQUEST"
	ReasonPayloadTooLarge  Reason = "PAYLOAD_TOO_LARGE"
	ReasonTokenMissing     Reason = "TOKEN_MISSING"
	ReasonTokenInvalid     Reason = "TOKEN_INVALID"
	ReasonTokenExpired     Reason = "TOKEN_EXPIRED"
	ReasonTokenRevoked     Reason = "TOKEN_REVOKED"
	ReasonOtherUser        Reason = "OTHER_USER"
	ReasonForbidden        Reason = "FORBIDDEN"
	ReasonPublishDisabled  Reason = "CLIENT_PUBLISH_DISABLED"
	ReasonNotSubscribed    Reason = "NOT_SUBSCRIBED"
	ReasonTooManyRooms     Reason = "TOO_MANY_ROOMS"
	ReasonTooManyMessages  Reason = "TOO_MANY_MESSAGES"
	ReasonTooFast          Reason = "TOO_FAST"
	ReasonTooSlow          Reason = "TOO_SLOW"
	ReasonBusBusy          Reason = "BUS_BUSY"
	ReasonBusUnavailable   Reason = "BUS_UNAVAILABLE"
	ReasonLogFull          Reason = "LOG_FULL"
	ReasonOutcomeUnknown   Reason = "OUTCOME_UNKNOWN"
	ReasonPositionLost     Reason = "POSITION_LOST"
	ReasonNoHistory        Reason = "NO_HISTORY"
	ReasonNoPresence       Reason = "NO_PRESENCE"
	ReasonDraining         Reason = "DRAINING"
	ReasonOverloaded       Reason = "OVERLOADED"
	ReasonOrigin           Reason = "ORIGIN_NOT_ALLOWED"
	ReasonSubprotocol      Reason = "SUBPROTOCOL_NOT_SERVED"
	ReasonHandshake        Reason = "BAD_HANDSHAKE"
	ReasonUnimplemented    Reason = "UNIMPLEMENTED"
	ReasonCanceled         Reason = "CANCELED"
	ReasonInvalidNode      Reason = "INVALID_NODE"
	ReasonInvalidDuration  Reason = "INVALID_DURATION"
	ReasonNoSuchNode       Reason = "NO_SUCH_NODE"
	ReasonNodeUnavailable  Reason = "NODE_UNAVAILABLE"
)

// Error is the one error type that crosses package boundaries on purpose. Any other
// error is internal: logged in full, hidden from the caller.
type Error struct {
	Kind       Kind
	Reason     Reason
	Field      string        // of Invalid: which field, in the caller's words
	Msg        string        // for people; never holds a payload or a token
	RetryAfter time.Duration // 0 = retrying does not help
	Err        error         // the cause, for logs
}

// Error returns the text for people, the cause included.
func (e *Error) Error() string {
	msg := e.Msg
	if e.Field != "" {
		msg = e.Field + " " + msg
	}
	if e.Err != nil {
		return msg + ": " + e.Err.Error()
	}
	return msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error without a field.
func Errorf(kind Kind, reason Reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Msg: fmt.Sprintf(format, args...)}
}

// Invalidf makes an error of kind [Invalid] that names the field. The text goes on
// from the field's name: "has 201 bytes; the limit is 200".
func Invalidf(reason Reason, field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Reason: reason, Field: field, Msg: fmt.Sprintf(format, args...)}
}

// AsError returns err's *Error, or an internal one that wraps it.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: Internal, Reason: ReasonInternal, Msg: "internal error", Err: err}
}
