package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
)

func TestCloseError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code int
		text string
		want CloseError
		show string
	}{
		"no reason": {1011, "", CloseError{Code: 1011}, "socket closed with 1011"},
		"a word":    {4502, "slow", CloseError{Code: 4502, Text: "slow", Reason: "slow"}, "socket closed with 4502: slow"},
		"a word, a hint and prose": {
			4429, "too_fast: retry_ms=1500 wait a little",
			CloseError{Code: 4429, Text: "too_fast: retry_ms=1500 wait a little", Reason: "too_fast", RetryAfter: 1500 * time.Millisecond},
			"socket closed with 4429: too_fast: retry_ms=1500 wait a little",
		},
		"an absurd hint": {
			1013, "busy retry_ms=99999999999999999999",
			CloseError{Code: 1013, Text: "busy retry_ms=99999999999999999999", Reason: "busy"},
			"socket closed with 1013: busy retry_ms=99999999999999999999",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := newCloseError(test.code, test.text)
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.Error() != test.show {
				t.Errorf("got %q, want %q", got, test.show)
			}
		})
	}
}

func TestErrorIsItsContextError(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]error{
		codes.DeadlineExceeded: context.DeadlineExceeded,
		codes.Canceled:         context.Canceled,
	} {
		if !errors.Is(&Error{Code: code}, want) {
			t.Errorf("%s is not %v", code, want)
		}
	}
	if errors.Is(&Error{Code: codes.Unavailable}, context.Canceled) {
		t.Error("UNAVAILABLE is context.Canceled")
	}
}

func TestErrorFrame(t *testing.T) {
	t.Parallel()
	frame := errorFrame{Code: "RESOURCE_EXHAUSTED", Reason: "TOO_FAST", Message: "slower", Field: "subscribe", RetryMs: 250}
	want := &Error{
		Code: codes.ResourceExhausted, Reason: "TOO_FAST", Message: "slower", Field: "subscribe",
		RetryAfter: 250 * time.Millisecond,
	}
	if diff := cmp.Diff(want, frame.toError(), cmp.AllowUnexported(Error{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := (&errorFrame{Code: "NO_SUCH_CODE"}).toError().Code; got != codes.Unknown {
		t.Errorf("got %s for a code unheard of, want Unknown", got)
	}
}
