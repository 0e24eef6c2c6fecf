package embednats

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
)

// BenchmarkSubscription is what NATS alone needs for a room with one socket: a
// subscription in the client and in the server, both in this process. "live" is what
// the heap holds for each after a collection.
func BenchmarkSubscription(b *testing.B) {
	s, err := Start(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := nats.Connect("", s.ConnOption())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	in := make(chan *nats.Msg)
	before := live()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, err := nc.ChanSubscribe("rc.live.bench."+strconv.Itoa(i), in); err != nil {
			b.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric((live()-before)/float64(b.N), "live-B/op")
}

// live is how many bytes the heap holds that somebody uses.
func live() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
