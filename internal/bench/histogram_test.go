package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQuantiles: within 0.8 % of the exact ones, which sorting gives.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	tests := map[string]func() int64{
		"even":        func() int64 { return random.Int64N(int64(time.Second)) },
		"exponential": func() int64 { return int64(random.ExpFloat64() * float64(3*time.Millisecond)) },
		"few values":  func() int64 { return int64(random.IntN(3)) * int64(time.Millisecond) },
		"tiny":        func() int64 { return random.Int64N(200) },
	}
	for name, draw := range tests {
		values := make([]int64, 10_000)
		for i := range values {
			values[i] = draw()
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h, second histogram
			for i, v := range values {
				if i%2 == 0 {
					h.add(v)
				} else {
					second.add(v)
				}
			}
			h.merge(&second)
			slices.Sort(values)
			for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
				exact := values[max(0, min(len(values)-1, int(q*float64(len(values)))-1))]
				got := int64(h.quantile(q))
				if got < exact || float64(got) > float64(exact)*1.008+1 {
					t.Errorf("quantile %g: got %d, want %d to 0.8 %%", q, got, exact)
				}
			}
			if h.n != uint64(len(values)) || h.min != values[0] || h.max != values[len(values)-1] {
				t.Errorf("got n %d min %d max %d, want %d %d %d", h.n, h.min, h.max, len(values), values[0], values[len(values)-1])
			}
		})
	}
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	previous := -1
	for _, v := range []int64{0, 1, 127, 128, 129, 255, 256, 257, 258, 1 << 20, 1<<20 + 1<<13, 1<<40 - 1} {
		b := bucketOf(v)
		if b < previous || b >= buckets {
			t.Errorf("bucket of %d is %d, after %d", v, b, previous)
		}
		if upper := upperBound(b); upper < v || bucketOf(upper) != b || b < buckets-1 && bucketOf(upper+1) != b+1 {
			t.Errorf("bucket of %d is %d, which ends at %d", v, b, upper)
		}
		previous = b
	}
	if got := bucketOf(1 << 50); got != buckets-1 {
		t.Errorf("bucket of a very long time is %d, want the last", got)
	}
}

func TestEmptyHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	h.merge(&histogram{})
	if l := h.latency(); l.Count != 0 || l.P99 != 0 || l.Mean != 0 || len(l.Bars) != 0 {
		t.Errorf("got %+v, want zeros", l)
	}
	h.add(-5)
	if l := h.latency(); l.Count != 1 || l.Max != 0 {
		t.Errorf("got %+v, want one zero", l)
	}
}

// TestBars: one a power of two, with the empty ones between but none around.
func TestBars(t *testing.T) {
	t.Parallel()
	var h histogram
	for _, ns := range []int64{1 << 20, 1<<20 + 5, 1 << 22} {
		h.add(ns)
	}
	var got []uint64
	for _, bar := range h.bars() {
		got = append(got, bar.Count)
	}
	if !slices.Equal(got, []uint64{2, 0, 1}) {
		t.Errorf("got bars %v, want 2 0 1", got)
	}
}
