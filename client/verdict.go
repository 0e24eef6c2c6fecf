package client

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"
)

// Close codes of the contract that need more than their class.
const (
	closeBadToken = 4401
	closeNoAuth   = 4408
)

// verdict says what follows the end of a connection, or of a try to make one.
type verdict struct {
	stop     bool          // reconnecting would not help
	badToken bool          // it would with another token
	wait     time.Duration // before the backoff
}

// judge reads the close codes of the contract (docs/protocol.md) and the HTTP status
// of a refused handshake. Everything else is a broken network, which may heal.
func judge(err error) verdict {
	if _, ok := errors.AsType[finalError](err); ok {
		return verdict{stop: true}
	}
	if closed, ok := errors.AsType[*CloseError](err); ok {
		return judgeClose(closed)
	}
	if refused, ok := errors.AsType[*Error](err); ok && refused.status != 0 {
		return judgeStatus(refused)
	}
	return verdict{}
}

func judgeClose(e *CloseError) verdict {
	if e.Code >= 4400 && e.Code < 4500 && e.RetryAfter == 0 {
		return verdict{stop: true, badToken: e.Code == closeBadToken}
	}
	switch e.Code {
	case websocket.CloseNormalClosure,
		websocket.CloseProtocolError, websocket.CloseUnsupportedData, websocket.CloseInvalidFramePayloadData,
		websocket.ClosePolicyViolation, websocket.CloseMessageTooBig, websocket.CloseMandatoryExtension:
		return verdict{stop: true}
	default:
		return verdict{wait: e.RetryAfter}
	}
}

func judgeStatus(e *Error) verdict {
	switch {
	case e.status == http.StatusUnauthorized:
		return verdict{stop: true, badToken: true}
	case e.status == http.StatusRequestTimeout, e.status == http.StatusTooEarly, e.status == http.StatusTooManyRequests,
		e.status >= 500:
		return verdict{wait: e.RetryAfter}
	default:
		return verdict{stop: true}
	}
}

// delay returns how long to wait before the next try.
func (v verdict) delay(b *backoff) time.Duration {
	return v.wait + b.next()
}

// reasonOf returns the machine word for the end of a connection.
func reasonOf(err error) string {
	if closed, ok := errors.AsType[*CloseError](err); ok && closed.Reason != "" {
		return closed.Reason
	}
	if refused, ok := errors.AsType[*Error](err); ok && refused.Reason != "" {
		return refused.Reason
	}
	return "CONNECTION_LOST"
}

// handshakeError reads the answer that refused a WebSocket. body is its beginning.
func handshakeError(resp *http.Response, body []byte) *Error {
	e := &Error{
		Code:       codes.Unavailable,
		Reason:     "HANDSHAKE_REFUSED",
		Message:    "the server answered the WebSocket handshake with " + resp.Status,
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
		status:     resp.StatusCode,
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		e.Code, e.Reason = codes.Unauthenticated, "TOKEN_REFUSED"
	case resp.StatusCode == http.StatusForbidden:
		e.Code, e.Reason = codes.PermissionDenied, "FORBIDDEN"
	case resp.StatusCode == http.StatusTooManyRequests:
		e.Code = codes.ResourceExhausted
	case resp.StatusCode < 500:
		e.Code = codes.FailedPrecondition
	}
	if len(body) > 0 {
		e.Message += ": " + strconv.Quote(string(body))
	}
	return e
}

// retryAfter reads the header: seconds or a date; 0 if it is neither.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
