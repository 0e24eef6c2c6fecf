package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestAfterStorms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ticks []uint64 // sockets opened and closed in each
		want  []int    // releases after each
	}{
		"a storm":             {[]uint64{5000, 5000, 0, 0}, []int{0, 0, 1, 1}},
		"two storms":          {[]uint64{5000, 0, 5000, 0}, []int{0, 1, 1, 2}},
		"few":                 {[]uint64{999, 0, 0}, []int{0, 0, 0}},
		"few again and again": {[]uint64{99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99}, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}},
		"it goes on":          {[]uint64{5000, 101, 101, 100}, []int{0, 0, 0, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				sockets, released := uint64(7), 0
				go afterStorms(ctx, func() uint64 { return sockets }, func() { released++ })
				synctest.Wait()
				for i, n := range test.ticks {
					sockets += n
					time.Sleep(stormTick)
					synctest.Wait()
					if released != test.want[i] {
						t.Errorf("after tick %d: %d releases, want %d", i, released, test.want[i])
					}
				}
				cancel()
			})
		})
	}
}
