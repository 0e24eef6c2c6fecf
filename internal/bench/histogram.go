package bench

import (
	"math/bits"
	"time"
)

// A histogram's buckets: 128 to each power of two, so that a value is known to 0.8 %.
const (
	subBits = 7
	subs    = 1 << subBits
	maxBits = 40 // 18 minutes in nanoseconds; longer counts as that
	buckets = (maxBits - subBits + 1) * subs
)

// histogram counts durations. The zero value is ready; it is not safe for concurrent use.
type histogram struct {
	counts [buckets]uint64
	n      uint64
	sum    float64 // nanoseconds
	min    int64   // nanoseconds
	max    int64
}

// add counts one duration in nanoseconds; below 0 counts as 0.
func (h *histogram) add(ns int64) {
	ns = max(ns, 0)
	h.counts[bucketOf(ns)]++
	if h.n == 0 || ns < h.min {
		h.min = ns
	}
	h.max = max(h.max, ns)
	h.n++
	h.sum += float64(ns)
}

// bucketOf is the bucket of a value: values below 128 have one each, then each power
// of two has 128.
func bucketOf(ns int64) int {
	v := uint64(ns) //nolint:gosec // add has seen to it
	if v >= 1<<maxBits {
		return buckets - 1
	}
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift*subs + int(v>>shift) //nolint:gosec // below buckets
}

// upperBound is the largest value of a bucket.
func upperBound(bucket int) int64 {
	shift := max(bucket/subs-1, 0)
	return int64(bucket-shift*subs+1)<<shift - 1
}

// merge adds what another histogram has counted.
func (h *histogram) merge(other *histogram) {
	if other.n == 0 {
		return
	}
	if h.n == 0 || other.min < h.min {
		h.min = other.min
	}
	h.max = max(h.max, other.max)
	h.n += other.n
	h.sum += other.sum
	for i, c := range other.counts {
		h.counts[i] += c
	}
}

// quantile is the duration that a share q of all does not exceed; 0 if there is none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) {
		rank++
	}
	seen := uint64(0)
	for i, c := range h.counts {
		seen += c
		if seen >= max(rank, 1) {
			return time.Duration(min(upperBound(i), h.max))
		}
	}
	return time.Duration(h.max)
}

// Latency is what a histogram says, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"meanMs"`
	Min   float64 `json:"minMs"`
	P50   float64 `json:"p50Ms"`
	P90   float64 `json:"p90Ms"`
	P99   float64 `json:"p99Ms"`
	P999  float64 `json:"p999Ms"`
	Max   float64 `json:"maxMs"`
	Bars  []Bar   `json:"histogram"`
}

// Bar is how many durations were in (the bar before, UpTo].
type Bar struct {
	UpTo  float64 `json:"upToMs"`
	Count uint64  `json:"count"`
}

func (h *histogram) latency() Latency {
	l := Latency{
		Count: h.n, Min: ms(time.Duration(h.min)), Max: ms(time.Duration(h.max)),
		P50: ms(h.quantile(0.5)), P90: ms(h.quantile(0.9)), P99: ms(h.quantile(0.99)), P999: ms(h.quantile(0.999)),
		Bars: h.bars(),
	}
	if h.n > 0 {
		l.Mean = h.sum / float64(h.n) / 1e6
	}
	return l
}

// bars are one a power of two, from the first that has a value to the last.
func (h *histogram) bars() []Bar {
	bars := []Bar{}
	waiting := []Bar(nil) // empty ones, of interest only between others
	for first := 0; first < buckets; first += subs {
		count := uint64(0)
		for _, c := range h.counts[first : first+subs] {
			count += c
		}
		bar := Bar{UpTo: float64(upperBound(first+subs-1)+1) / 1e6, Count: count}
		switch {
		case count > 0:
			bars = append(append(bars, waiting...), bar)
			waiting = nil
		case len(bars) > 0:
			waiting = append(waiting, bar)
		}
	}
	return bars
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
