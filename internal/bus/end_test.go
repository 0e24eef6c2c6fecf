package bus_test

import (
	"errors"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// A leader that has been replaced, or has not caught up after a restart, tells an end of
// the log that is too low. That alone must not make a position one of another past.
func TestEndIsProven(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	publish(t, b, "a", "one")
	last := parse(t, publish(t, b, "a", "two")).Seq
	if above, err := b.IsAbove(t.Context(), "default", last, last); above || err != nil {
		t.Errorf("at the end: %t, %v", above, err)
	}
	_, err := b.IsAbove(t.Context(), "default", last-1, last)
	if e, ok := errors.AsType[*room.Error](err); !ok || e.Kind != room.Unavailable {
		t.Errorf("above the end that was told, not above the end: %v, want another try", err)
	}
	if above, err := b.IsAbove(t.Context(), "default", last-1, last+1000); !above || err != nil {
		t.Errorf("above the end: %t, %v", above, err)
	}
}
