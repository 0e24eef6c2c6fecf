package rolling

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/roomcast/roomcast/client"
)

const publishers = 8

// Published is what the publishers have noticed.
type Published struct {
	Messages int
	Failed   int           // after the client's own retries
	Slowest  time.Duration // of one call, retries included
	Errors   map[string]int
}

// load publishes to all rooms in turn until stop, each room's messages one after the
// other and numbered.
type load struct {
	publisher *client.Publisher
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu   sync.Mutex
	ends map[string]int // messages by room
	sum  Published
}

func startLoad(addr string, rooms, perSecond int) (*load, error) {
	publisher, err := client.Dial(addr, client.WithPlaintext())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{publisher: publisher, cancel: cancel, ends: map[string]int{}, sum: Published{Errors: map[string]int{}}}
	for i := range min(publishers, rooms) {
		l.running.Go(func() { l.publish(ctx, i, rooms, perSecond) })
	}
	return l, nil
}

// publish is one publisher, which has every publishers-th room.
func (l *load) publish(ctx context.Context, first, rooms, perSecond int) {
	pace := time.NewTicker(time.Second * time.Duration(min(publishers, rooms)) / time.Duration(perSecond))
	defer pace.Stop()
	counts := map[string]int{}
	for n := first; ; n += publishers {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		if n >= rooms {
			n = first
		}
		room := roomName(n)
		counts[room]++
		began := time.Now()
		// Not ctx: a call that has begun is finished, so that its outcome is known.
		_, err := l.publisher.Publish(context.Background(), client.Message{
			Room: room, Body: client.Text(fmt.Sprintf("%d %d", counts[room], began.UnixNano())),
		})
		l.note(room, counts[room], time.Since(began), err)
	}
}

func (l *load) note(room string, count int, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[room] = count
	l.sum.Messages++
	l.sum.Slowest = max(l.sum.Slowest, took)
	if err != nil {
		l.sum.Failed++
		l.sum.Errors[err.Error()]++
	}
}

// stop ends the load and returns how many messages each room has had. It may be called
// again.
func (l *load) stop() (ends map[string]int, sum Published) {
	l.cancel()
	l.running.Wait()
	_ = l.publisher.Close()
	return l.ends, l.sum
}
