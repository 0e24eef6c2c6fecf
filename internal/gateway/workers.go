package gateway

import (
	"runtime"
	"sync"
)

// workers read the sockets that have something to read. There are as many as are
// needed, but no more than maxWorkers at a time that do not wait: a storm of requests
// must not become a storm of stacks.
type workers struct {
	wg sync.WaitGroup

	mu      sync.Mutex // guards what follows
	queue   []*session
	running int
	blocked int // of them, wait for this node
}

func maxWorkers() int { return 16 * runtime.GOMAXPROCS(0) }

// push has a session read.
func (w *workers) push(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, s)
	w.start()
}

// start sees that somebody takes the queue. The lock is held.
func (w *workers) start() {
	if len(w.queue) > 0 && w.running-w.blocked < maxWorkers() {
		w.running++
		w.wg.Go(w.run)
	}
}

// run reads sessions until the queue is empty.
func (w *workers) run() {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.running--
			w.mu.Unlock()
			return
		}
		s := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		w.mu.Unlock()
		s.reader.pooled = true
		s.guard("reader", s.read)
	}
}

// block says that a worker is about to wait for this node; unblock, that it goes on.
func (w *workers) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked++
	w.start()
}

func (w *workers) unblock() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked--
}
