package rolling

import (
	"sync"
	"time"
)

const (
	stallTick = 10 * time.Millisecond
	longStall = 100 * time.Millisecond // what makes a figure of one second worthless
)

// stalls notes when this process did not run though it should have.
type stalls struct {
	end     chan struct{}
	running sync.WaitGroup

	mu   sync.Mutex
	seen []stall
}

type stall struct {
	at   time.Time
	late time.Duration
}

func watchStalls() *stalls {
	s := &stalls{end: make(chan struct{})}
	s.running.Go(s.watch)
	return s
}

func (s *stalls) watch() {
	for {
		due := time.Now().Add(stallTick)
		select {
		case <-time.After(stallTick):
		case <-s.end:
			return
		}
		if late := time.Since(due); late > stallTick {
			s.mu.Lock()
			s.seen = append(s.seen, stall{time.Now(), late})
			s.mu.Unlock()
		}
	}
}

// longest returns the longest stall since a time.
func (s *stalls) longest(since time.Time) (most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.seen {
		if one.at.After(since) {
			most = max(most, one.late)
		}
	}
	return most
}

func (s *stalls) stop() {
	close(s.end)
	s.running.Wait()
}
