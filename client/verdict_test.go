package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestVerdictOfCloseCodes is the table of docs/protocol.md, "Close codes".
func TestVerdictOfCloseCodes(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	tests := map[string]struct {
		code int
		text string
		want verdict
	}{
		"asked for":              {1000, "", verdict{stop: true}},
		"asked for with a hint":  {1000, "done retry_ms=5", verdict{stop: true}},
		"going away":             {1001, "stop retry_ms=5", verdict{wait: 5 * ms}},
		"protocol error":         {1002, "", verdict{stop: true}},
		"unsupported data":       {1003, "", verdict{stop: true}},
		"no status":              {1005, "", verdict{}},
		"broken":                 {1006, "", verdict{}},
		"bad UTF-8":              {1007, "", verdict{stop: true}},
		"policy":                 {1008, "", verdict{stop: true}},
		"too big":                {1009, "", verdict{stop: true}},
		"our fault":              {1011, "", verdict{}},
		"restart":                {1012, "draining retry_ms=20000", verdict{wait: 20_000 * ms}},
		"overloaded":             {1013, "overloaded retry_ms=900", verdict{wait: 900 * ms}},
		"bad gateway":            {1014, "", verdict{}},
		"repeated bad requests":  {4400, "bad", verdict{stop: true}},
		"token":                  {4401, "token", verdict{stop: true, badToken: true}},
		"forbidden":              {4403, "origin", verdict{stop: true}},
		"no auth":                {4408, "no_auth retry_ms=1000", verdict{wait: 1000 * ms}},
		"replaced":               {4409, "replaced", verdict{stop: true}},
		"too many":               {4413, "connections", verdict{stop: true}},
		"too many with a hint":   {4413, "connections retry_ms=7", verdict{wait: 7 * ms}},
		"too fast":               {4429, "too_fast retry_ms=3000", verdict{wait: 3000 * ms}},
		"too fast without hint":  {4429, "too_fast", verdict{stop: true}},
		"hint that is no number": {4429, "too_fast retry_ms=soon", verdict{stop: true}},
		"expired":                {4501, "expired", verdict{}},
		"too slow":               {4502, "slow retry_ms=1500", verdict{wait: 1500 * ms}},
		"position lost":          {4503, "", verdict{}},
		"no pong":                {4504, "", verdict{}},
		"aged out":               {4505, "", verdict{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(newCloseError(test.code, test.text)); got != test.want {
				t.Errorf("%d %q: got %+v, want %+v", test.code, test.text, got, test.want)
			}
		})
	}
}

func TestVerdictOfOtherErrors(t *testing.T) {
	t.Parallel()
	refused := func(status int, header string) error {
		return handshakeError(&http.Response{
			Status: http.StatusText(status), StatusCode: status, Header: http.Header{"Retry-After": {header}},
		}, nil)
	}
	tests := map[string]struct {
		err  error
		want verdict
	}{
		"broken network":       {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), verdict{}},
		"final":                {finalError{errors.New("no")}, verdict{stop: true}},
		"refusal of a renewal": {&Error{Message: "from a token source"}, verdict{}},
		"401":                  {refused(401, ""), verdict{stop: true, badToken: true}},
		"403":                  {refused(403, "5"), verdict{stop: true}},
		"404":                  {refused(404, ""), verdict{stop: true}},
		"301":                  {refused(301, ""), verdict{stop: true}},
		"408":                  {refused(408, ""), verdict{}},
		"429":                  {refused(429, "5"), verdict{wait: 5 * time.Second}},
		"500":                  {refused(500, ""), verdict{}},
		"503":                  {refused(503, "x"), verdict{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(test.err); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tests := map[string]time.Duration{
		"":                              0,
		"3":                             3 * time.Second,
		"-3":                            0,
		"soon":                          0,
		"Mon, 23 Nov 2026 10:00:09 GMT": 9 * time.Second,
		"Mon, 23 Nov 2026 09:00:00 GMT": 0,
	}
	for header, want := range tests {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: got %s, want %s", header, got, want)
		}
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	var b backoff
	for try, ceiling := range []int{250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		if got, want := b.ceiling(), time.Duration(ceiling)*time.Millisecond; got != want {
			t.Errorf("try %d: got a ceiling of %s, want %s", try, got, want)
		}
	}
	b.reset()
	if got := b.ceiling(); got != backoffBase {
		t.Errorf("got %s after a reset, want %s", got, backoffBase)
	}
	b.tries = 1 << 40
	if got := b.ceiling(); got != backoffLimit {
		t.Errorf("got %s after very many tries, want %s", got, backoffLimit)
	}
	var low, high int
	for range 1000 {
		d := within(time.Second)
		if d < 0 || d > time.Second {
			t.Fatalf("got %s, want 0 to 1s", d)
		}
		if d < 100*time.Millisecond {
			low++
		}
		if d > 900*time.Millisecond {
			high++
		}
	}
	if low < 50 || high < 50 { // 100 each are expected
		t.Errorf("got %d draws in the lowest tenth and %d in the highest, want full jitter", low, high)
	}
}
