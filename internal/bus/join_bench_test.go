package bus_test

import (
	"fmt"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// door is a room that only tells when it is open.
type door struct {
	ear
	open chan struct{}
}

func (d *door) Opened(room.Position) { d.open <- struct{}{} }

// BenchmarkJoin opens rooms of a single server's log, so many at a time. An op is one
// room.
func BenchmarkJoin(b *testing.B) {
	for _, together := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(together), func(b *testing.B) {
			bus := open(b, nodetest.StartNATS(b).URL)
			d := &door{open: make(chan struct{}, together)}
			for i := range 100 {
				publish(b, bus, room.Name(fmt.Sprint("r", i)), "x")
			}
			stops := make([]func(), together)
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += together {
				for i := range stops {
					stops[i] = bus.Listen(room.Name(fmt.Sprint("r", i)), d)
				}
				for range stops {
					<-d.open
				}
				for _, stop := range stops {
					stop()
				}
			}
		})
	}
}
