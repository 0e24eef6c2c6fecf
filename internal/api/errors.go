package api

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/roomcast/roomcast/internal/room"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "roomcast"

// Keys of ErrorInfo.metadata.
const (
	metaField    = "field"    // the request's field that is at fault
	metaIncident = "incident" // finds an internal error in the node's log
)

// codeOf is the one table from a kind of error to a gRPC code.
func codeOf(kind room.Kind) codes.Code {
	switch kind {
	case room.Invalid:
		return codes.InvalidArgument
	case room.Unauthenticated:
		return codes.Unauthenticated
	case room.Denied:
		return codes.PermissionDenied
	case room.Exhausted:
		return codes.ResourceExhausted
	case room.Unavailable:
		return codes.Unavailable
	case room.Deadline:
		return codes.DeadlineExceeded
	case room.OutOfRange:
		return codes.OutOfRange
	case room.Precondition:
		return codes.FailedPrecondition
	case room.NotFound:
		return codes.NotFound
	case room.Unimplemented:
		return codes.Unimplemented
	case room.Canceled:
		return codes.Canceled
	case room.Internal:
		return codes.Internal
	}
	return codes.Internal
}

// failures turns errors into what callers see, and logs the internal ones.
type failures struct {
	logger *slog.Logger
}

// status returns the status for err, which must not be nil. An internal error is
// logged here, once, under an incident id that the caller gets in its place.
func (f *failures) status(ctx context.Context, method string, err error) *status.Status {
	if st := foreignStatus(err); st != nil {
		return st
	}
	e := classify(err)
	incident := ""
	if e.Kind == room.Internal {
		incident = rand.Text()[:12]
		f.logger.LogAttrs(ctx, slog.LevelError, "internal error",
			slog.String("incident", incident), slog.String("method", method), slog.Any("error", err))
	}
	return newStatus(e, incident)
}

// proto is status for one item of a batch or a stream.
func (f *failures) proto(ctx context.Context, method string, err error) *spb.Status {
	return f.status(ctx, method, err).Proto()
}

// foreignStatus returns the status of an error that grpc-go itself made, such as a
// message over the hard cap; nil for all others. Not so the bare UNIMPLEMENTED of
// the generated servers and UNKNOWN, which classify knows better.
func foreignStatus(err error) *status.Status {
	if _, ours := errors.AsType[*room.Error](err); ours {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.Unimplemented || st.Code() == codes.Unknown {
		return nil
	}
	return st
}

// classify returns err as a *room.Error. An error that nobody gave a kind is
// internal, unless it is a context's.
func classify(err error) *room.Error {
	if e, ok := errors.AsType[*room.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return room.Errorf(room.Deadline, room.ReasonOutcomeUnknown,
			"no answer in time; the outcome is unknown")
	case errors.Is(err, context.Canceled):
		return room.Errorf(room.Canceled, room.ReasonCanceled, "the call was canceled")
	case status.Code(err) == codes.Unimplemented:
		return room.Errorf(room.Unimplemented, room.ReasonUnimplemented, "this node does not serve the method")
	}
	return room.AsError(err)
}

// newStatus makes the status of e with its details. The cause, e.Err, is for logs
// and never part of it.
func newStatus(e *room.Error, incident string) *status.Status {
	text := e.Msg
	if e.Field != "" {
		text = e.Field + " " + e.Msg
	}
	info := &errdetails.ErrorInfo{Domain: errorDomain, Reason: string(e.Reason)}
	if e.Field != "" {
		info.Metadata = map[string]string{metaField: e.Field}
	}
	if e.Kind == room.Internal {
		text = "internal error"
		info.Reason = string(room.ReasonInternal)
		info.Metadata = nil
		if incident != "" {
			text += ", incident " + incident
			info.Metadata = map[string]string{metaIncident: incident}
		}
	}
	st := status.New(codeOf(e.Kind), text)
	detailed, err := st.WithDetails(append([]protoadapt.MessageV1{info}, details(e)...)...)
	if err != nil {
		return st // a detail that cannot be encoded must not hide the error
	}
	return detailed
}

// details returns what a kind of error has besides its ErrorInfo.
func details(e *room.Error) []protoadapt.MessageV1 {
	var list []protoadapt.MessageV1
	switch e.Kind {
	case room.Invalid:
		if e.Field != "" {
			list = append(list, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{
				Field: e.Field, Description: e.Msg, Reason: string(e.Reason),
			}}})
		}
	case room.Exhausted:
		list = append(list, &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{
			Subject: string(e.Reason), Description: e.Msg,
		}}})
	case room.Precondition:
		list = append(list, &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{
			Type: string(e.Reason), Description: e.Msg,
		}}})
	default:
	}
	if e.RetryAfter > 0 && e.Kind != room.Internal {
		list = append(list, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	return list
}

// inField returns err with prefix before the name of its field, if it has one, so
// that a batch's errors say which item they mean.
func inField(prefix string, err error) error {
	e, ok := errors.AsType[*room.Error](err)
	if !ok || e.Field == "" {
		return err
	}
	named := *e
	named.Field = prefix + e.Field
	return &named
}
