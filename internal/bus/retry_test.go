package bus

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A cluster that is coming up answers a node that starts with it in all these ways.
func TestRetryEnsure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err   error
		waits bool
	}{
		"no leader yet":               {&jetstream.APIError{Code: 503, ErrorCode: 10008}, true},
		"servers are missing":         {&jetstream.APIError{Code: 400, ErrorCode: 10005}, true},
		"another node is making it":   {&jetstream.APIError{Code: 404, ErrorCode: 10059}, true},
		"nobody answers":              {nats.ErrNoResponders, true},
		"no answer in time":           {fmt.Errorf("stream: %w", context.DeadlineExceeded), true},
		"replicas without a cluster":  {&jetstream.APIError{Code: 500, ErrorCode: 10074}, false},
		"the account has no room":     {&jetstream.APIError{Code: 400, ErrorCode: 10047}, false},
		"a stream that is not ours":   {errors.New("it was not made by roomcast"), false},
		"a history that would shrink": {errors.New("start with --allow-shrink"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := retryEnsure(test.err); got != test.waits {
				t.Errorf("waits: %t, want %t", got, test.waits)
			}
		})
	}
}
