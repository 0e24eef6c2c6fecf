package node

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAfterStorms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ticks []uint64 // sockets opened and closed in each
		want  []uint64 // releases after each
	}{
		"a storm":             {[]uint64{5000, 5000, 0, 0}, []uint64{0, 0, 1, 1}},
		"two storms":          {[]uint64{5000, 0, 5000, 0}, []uint64{0, 1, 1, 2}},
		"few":                 {[]uint64{999, 0, 0}, []uint64{0, 0, 0}},
		"few again and again": {[]uint64{99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99}, []uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}},
		"it goes on":          {[]uint64{5000, 101, 101, 100}, []uint64{0, 0, 0, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var sockets, released atomic.Uint64
				go afterStorms(ctx, sockets.Load, func() { released.Add(1) })
				synctest.Wait()
				for i, n := range test.ticks {
					sockets.Add(n)
					time.Sleep(stormTick)
					synctest.Wait()
					if got := released.Load(); got != test.want[i] {
						t.Errorf("after tick %d: %d releases, want %d", i, got, test.want[i])
					}
				}
				cancel()
			})
		})
	}
}
