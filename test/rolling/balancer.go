package rolling

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	checkEvery = 100 * time.Millisecond
	copyBuffer = 4 << 10
	maxMisses  = 3 // checks without an answer; then a backend is down
)

// backend is where a balancer sends connections, and the URL that says whether it may.
type backend struct {
	addr, health string
	open         int       // connections; guarded by balancer.mu
	up           bool      // guarded by balancer.mu
	misses       int       // checks without an answer in a row; guarded by balancer.mu
	since        time.Time // guarded by balancer.mu; when it came up
}

// balancer is a TCP load balancer: a connection goes to the backend that has the
// fewest, among those that are healthy; of equals to the one that came up last.
type balancer struct {
	lis    net.Listener
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	backends []*backend
	accepted []time.Time
	conns    map[net.Conn]struct{}
}

// startBalancer listens on a free port of loopback.
func startBalancer(backends []*backend) (*balancer, error) {
	lis, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &balancer{lis: lis, cancel: cancel, backends: backends, conns: make(map[net.Conn]struct{})}
	for _, to := range backends {
		b.check(ctx, to)
		b.wg.Go(func() { b.watch(ctx, to) })
	}
	b.wg.Go(b.accept)
	return b, nil
}

func (b *balancer) addr() string { return b.lis.Addr().String() }

// stop closes everything and waits.
func (b *balancer) stop() {
	b.cancel()
	_ = b.lis.Close()
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *balancer) watch(ctx context.Context, to *backend) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.check(ctx, to)
		case <-ctx.Done():
			return
		}
	}
}

func (b *balancer) check(ctx context.Context, to *backend) {
	status := httpStatus(ctx, to.health)
	b.mu.Lock()
	defer b.mu.Unlock()
	if to.misses++; status != 0 {
		to.misses = 0
	}
	up := status == http.StatusOK || status == 0 && to.up && to.misses < maxMisses
	if up && !to.up {
		to.since = time.Now()
	}
	to.up = up
}

// httpStatus is what a URL answers with; 0 is no answer.
func httpStatus(ctx context.Context, url string) int {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// times returns when connections have come.
func (b *balancer) times() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.accepted)
}

func (b *balancer) accept() {
	for {
		conn, err := b.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-time.After(checkEvery) // no descriptor is free just now
			continue
		}
		b.mu.Lock()
		b.accepted = append(b.accepted, time.Now())
		b.conns[conn] = struct{}{}
		b.mu.Unlock()
		b.wg.Go(func() { b.forward(conn) })
	}
}

// forward joins a connection with a backend until one of them ends.
func (b *balancer) forward(conn net.Conn) {
	defer b.drop(conn)
	for tried := map[*backend]bool{}; ; {
		to := b.choose(tried)
		if to == nil {
			return
		}
		server, err := net.DialTimeout("tcp", to.addr, time.Second) //nolint:noctx // it is bounded
		if err == nil {
			b.join(conn, server)
			b.leave(to)
			return
		}
		b.leave(to)
		tried[to] = true
	}
}

// choose takes a place at a backend.
func (b *balancer) choose(tried map[*backend]bool) (best *backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, to := range b.backends {
		if !to.up || tried[to] {
			continue
		}
		if best == nil || to.open < best.open || to.open == best.open && to.since.After(best.since) {
			best = to
		}
	}
	if best != nil {
		best.open++
	}
	return best
}

func (b *balancer) leave(to *backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to.open--
}

func (b *balancer) drop(conn net.Conn) {
	_ = conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, conn)
}

func (b *balancer) join(client, server net.Conn) {
	var there sync.WaitGroup
	there.Go(func() { pour(server, client) })
	pour(client, server)
	_ = client.Close()
	there.Wait()
	_ = server.Close()
}

// pour copies until the end, which it passes on. It keeps io.Copy from splicing, which
// would hold a pipe, two descriptors, for each direction of each connection.
func pour(to, from net.Conn) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, copyBuffer)) // the end is all that counts
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}
