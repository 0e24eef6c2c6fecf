package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/roomcast/roomcast/internal/room"
)

// kinds is how many kinds of errors there are.
const kinds = int(room.Canceled) + 1

func TestStatusOfEveryKind(t *testing.T) {
	t.Parallel()
	cause := errors.New("secret cause")
	tests := map[room.Kind]struct {
		err  *room.Error
		want string
	}{
		room.Internal: {
			&room.Error{Kind: room.Internal, Reason: room.ReasonInternal, Field: "f", Msg: "hidden", RetryAfter: time.Second, Err: cause},
			`{"code":13,"message":"internal error, incident 1","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INTERNAL","domain":"roomcast","metadata":{"incident":"1"}}]}`,
		},
		room.Invalid: {
			&room.Error{Kind: room.Invalid, Reason: room.ReasonInvalidRoom, Field: "room", Msg: "is empty", Err: cause},
			`{"code":3,"message":"room is empty","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"INVALID_ROOM","domain":"roomcast","metadata":{"field":"room"}},` +
				`{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[` +
				`{"field":"room","description":"is empty","reason":"INVALID_ROOM"}]}]}`,
		},
		room.Unauthenticated: {
			&room.Error{Kind: room.Unauthenticated, Reason: room.ReasonTokenInvalid, Msg: "the token is not valid", Err: cause},
			`{"code":16,"message":"the token is not valid","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"TOKEN_INVALID","domain":"roomcast"}]}`,
		},
		room.Denied: {
			room.Errorf(room.Denied, room.ReasonForbidden, "not allowed"),
			`{"code":7,"message":"not allowed","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"FORBIDDEN","domain":"roomcast"}]}`,
		},
		room.Exhausted: {
			&room.Error{Kind: room.Exhausted, Reason: room.ReasonBusBusy, Msg: "slow down", RetryAfter: 100 * time.Millisecond, Err: cause},
			`{"code":8,"message":"slow down","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"BUS_BUSY","domain":"roomcast"},` +
				`{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"BUS_BUSY","description":"slow down"}]},` +
				`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0.100s"}]}`,
		},
		room.Unavailable: {
			&room.Error{Kind: room.Unavailable, Reason: room.ReasonBusUnavailable, Msg: "the bus is away", RetryAfter: time.Second, Err: cause},
			`{"code":14,"message":"the bus is away","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"BUS_UNAVAILABLE","domain":"roomcast"},` +
				`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}]}`,
		},
		room.Deadline: {
			&room.Error{Kind: room.Deadline, Reason: room.ReasonOutcomeUnknown, Msg: "no ack", RetryAfter: time.Second, Err: cause},
			`{"code":4,"message":"no ack","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"OUTCOME_UNKNOWN","domain":"roomcast"},` +
				`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}]}`,
		},
		room.OutOfRange: {
			room.Errorf(room.OutOfRange, room.ReasonPositionLost, "gone"),
			`{"code":11,"message":"gone","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"POSITION_LOST","domain":"roomcast"}]}`,
		},
		room.Precondition: {
			room.Errorf(room.Precondition, room.ReasonNoHistory, "ephemeral"),
			`{"code":9,"message":"ephemeral","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"NO_HISTORY","domain":"roomcast"},` +
				`{"@type":"type.googleapis.com/google.rpc.PreconditionFailure","violations":[{"type":"NO_HISTORY","description":"ephemeral"}]}]}`,
		},
		room.Unimplemented: {
			&room.Error{Kind: room.Unimplemented, Reason: room.ReasonUnimplemented, Field: "receipt", Msg: "is not built yet"},
			`{"code":12,"message":"receipt is not built yet","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"UNIMPLEMENTED","domain":"roomcast","metadata":{"field":"receipt"}}]}`,
		},
		room.Canceled: {
			room.Errorf(room.Canceled, room.ReasonCanceled, "gone away"),
			`{"code":1,"message":"gone away","details":[` +
				`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"CANCELED","domain":"roomcast"}]}`,
		},
	}
	if len(tests) != kinds {
		t.Errorf("got %d kinds in the table, want %d", len(tests), kinds)
	}
	for kind, tt := range tests {
		t.Run(codeOf(kind).String(), func(t *testing.T) {
			t.Parallel()
			got := newStatus(tt.err, "1").Proto()
			want := got.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal([]byte(tt.want), want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(protojson.Format(want), protojson.Format(got)); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatusOfOtherErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		code   codes.Code
		reason room.Reason
		logged int
	}{
		"a wrapped one of ours": {fmt.Errorf("publish: %w", room.Errorf(room.Denied, room.ReasonForbidden, "no")), codes.PermissionDenied, room.ReasonForbidden, 0},
		"deadline":              {fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, room.ReasonOutcomeUnknown, 0},
		"canceled":              {fmt.Errorf("wait: %w", context.Canceled), codes.Canceled, room.ReasonCanceled, 0},
		"a generated server's":  {status.Error(codes.Unimplemented, "method X not implemented"), codes.Unimplemented, room.ReasonUnimplemented, 0},
		"anything else":         {errors.New("disk on fire"), codes.Internal, room.ReasonInternal, 1},
		"an internal one with a context's cause": {
			&room.Error{Kind: room.Internal, Msg: "x", Err: context.Canceled}, codes.Internal, room.ReasonInternal, 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs := &logBuffer{}
			f := &failures{logger: slog.New(slog.NewTextHandler(logs, nil))}
			st := f.status(t.Context(), "/m", tt.err)
			want{code: tt.code, reason: tt.reason}.check(t, st)
			if got := len(logs.lines("internal error")); got != tt.logged {
				t.Errorf("log lines: got %d, want %d", got, tt.logged)
			}
		})
	}
}

func TestStatusOfGRPCItselfIsKept(t *testing.T) {
	t.Parallel()
	f := &failures{logger: slog.New(slog.DiscardHandler)}
	err := status.Error(codes.ResourceExhausted, "grpc: received message larger than max")
	if got := f.status(t.Context(), "/m", err); got.Code() != codes.ResourceExhausted || got.Message() != "grpc: received message larger than max" {
		t.Errorf("got %v, want it unchanged", got)
	}
}
