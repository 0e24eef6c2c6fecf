package bus_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/bus"
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

// What is stored to find the end is no room's message, which a smaller history would drop.
func TestEndIsNoRoom(t *testing.T) {
	t.Parallel()
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	if above, err := b.IsAbove(t.Context(), "default", 1, 1000); !above || err != nil {
		t.Fatalf("above the end: %t, %v", above, err)
	}
	if _, err := tryOpen(t, srv.URL, func(c *bus.Config) {
		c.Policies = policies(t, func(ns map[string]room.Policy) {
			p := ns["default"]
			p.History.Size = 10
			ns["default"] = p
		})
	}); err != nil {
		t.Errorf("a smaller history of an empty log: %v", err)
	}
}

// Whoever asks after positions that he has made up shares the messages that find the
// log's end with everybody who asks meanwhile.
func TestForgedPositionsShareAProof(t *testing.T) {
	t.Parallel()
	const forged = 2000
	srv := nodetest.StartNATS(t)
	b := open(t, srv.URL)
	last := parse(t, publish(t, b, "a", "one")).Seq
	began := time.Now()
	var wg sync.WaitGroup
	for i := range uint64(forged) {
		wg.Go(func() {
			if above, err := b.IsAbove(t.Context(), "default", last, last+forged+100+i); !above || err != nil {
				t.Errorf("above the end: %t, %v", above, err)
			}
		})
	}
	wg.Wait()
	stored := parse(t, publish(t, b, "a", "two")).Seq - last - 1
	// A machine that takes 20 s for it may store one for each.
	if most := 2 + uint64(time.Since(began)/bus.ProofPause); stored > most {
		t.Errorf("%d messages stored for %d positions, want at most %d", stored, forged, most)
	}
}
