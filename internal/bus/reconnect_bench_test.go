package bus_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// BenchmarkReconnect is how long messages wait that were published while the connection
// was away, in 200 of so many rooms: until the last has come, from the cut on.
func BenchmarkReconnect(b *testing.B) {
	const probes = 200
	for _, rooms := range []int{200, 10_000, 40_000} {
		b.Run(fmt.Sprint(rooms), func(b *testing.B) {
			srv := nodetest.StartNATS(b)
			proxy := nodetest.StartProxy(b, srv.URL, "none", 1)
			node, pub := open(b, proxy.URL), open(b, srv.URL)
			publishTo := func(every int) {
				var wg sync.WaitGroup
				q := pub.NewSequence()
				for i := 0; i < rooms; i += every {
					wg.Add(1)
					q.Publish(b.Context(), text(room.Name(fmt.Sprint("r", i)), "x"), func(room.Ack, error) { wg.Done() })
				}
				wg.Wait()
			}
			publishTo(1)
			c := &counter{door: door{open: make(chan struct{}, rooms)}, heard: make(chan struct{}, rooms)}
			for i := range rooms {
				b.Cleanup(node.Listen(room.Name(fmt.Sprint("r", i)), c))
			}
			for range rooms {
				<-c.open
			}
			var took time.Duration
			for b.Loop() {
				began := time.Now()
				proxy.Cut()
				publishTo(rooms / probes)
				for range probes {
					<-c.heard
				}
				took += time.Since(began)
			}
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-to-last")
		})
	}
}

// counter is rooms that tell when they are open, and of each message.
type counter struct {
	door
	heard chan struct{}
}

func (c *counter) Append(*room.Message) { c.heard <- struct{}{} }
