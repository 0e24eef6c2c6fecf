package e2e

import (
	"testing"
	"time"

	"github.com/roomcast/roomcast/test/rolling"
)

// TestRollingRestart restarts three nodes one after the other under load: no client
// misses anything, and no call fails. `make rolling` does the same with 9,000 sockets
// and looks at the pace and at how often clients move too.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	report, err := rolling.Roll(t.Context(), rolling.Config{
		Roomcast: built.roomcast, NATS: built.nats, Dir: t.TempDir(), Log: t.Output(),
		Sockets: 150, Fleets: 1, Rooms: 10, PerSecond: 100, Window: 4 * time.Second, Quiet: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + report.String())
	for _, problem := range report.Problems() {
		t.Error(problem)
	}
}
