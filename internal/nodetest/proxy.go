package nodetest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands between nodes and a NATS server and loses messages on purpose: of
// those that the server sends for subjects with Prefix, every Nth.
type Proxy struct {
	URL     string
	Dropped atomic.Int64

	target string
	prefix string
	every  int64
	seen   atomic.Int64
	healed atomic.Bool
	shut   atomic.Bool
	lis    net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	next  string // where the next connection goes instead; empty = as all
	ended bool
}

// StartProxy starts a proxy for the server at natsURL. It ends with the test.
func StartProxy(t testing.TB, natsURL, prefix string, every int) *Proxy {
	t.Helper()
	u, err := url.Parse(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		URL: "nats://" + lis.Addr().String(), target: u.Host, prefix: prefix, every: int64(every),
		lis: lis, conns: make(map[net.Conn]struct{}),
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.Stop)
	return p
}

// Heal ends the losses.
func (p *Proxy) Heal() { p.healed.Store(true) }

// Part closes every connection that goes through the proxy, and refuses others until
// Join.
func (p *Proxy) Part() {
	p.shut.Store(true)
	p.Cut()
}

// Join ends Part.
func (p *Proxy) Join() { p.shut.Store(false) }

// Divert leads the next connection to another server.
func (p *Proxy) Divert(natsURL string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = strings.TrimPrefix(natsURL, "nats://")
}

// targetOfNext returns where a new connection goes.
func (p *Proxy) targetOfNext() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	target := p.target
	if p.next != "" {
		target, p.next = p.next, ""
	}
	return target
}

// Cut closes every connection that goes through the proxy.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // its copiers end
	}
}

// Stop closes every connection and takes no more.
func (p *Proxy) Stop() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	_ = p.lis.Close()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.lis.Accept()
		if err != nil {
			return
		}
		if p.shut.Load() {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.targetOfNext()) //nolint:noctx // ends with the test
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.track(client, server) {
			return
		}
		p.wg.Go(func() {
			defer p.close(client, server)
			_, _ = io.Copy(server, client)
		})
		p.wg.Go(func() {
			defer p.close(client, server)
			p.forward(client, bufio.NewReaderSize(server, 64<<10))
		})
	}
}

func (p *Proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.ended {
			_ = c.Close()
			continue
		}
		p.conns[c] = struct{}{}
	}
	return !p.ended
}

func (p *Proxy) close(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// forward copies the server's protocol to the client, message by message.
func (p *Proxy) forward(client io.Writer, server *bufio.Reader) {
	for {
		line, err := server.ReadSlice('\n')
		if err != nil {
			return
		}
		out := bytes.Clone(line)
		verb, rest, _ := strings.Cut(string(line), " ")
		lose := false
		if verb == "MSG" || verb == "HMSG" {
			fields := strings.Fields(rest)
			size, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return
			}
			body := make([]byte, size+2) // and CRLF
			if _, err := io.ReadFull(server, body); err != nil {
				return
			}
			out = append(out, body...)
			lose = !p.healed.Load() && strings.HasPrefix(fields[0], p.prefix) && p.seen.Add(1)%p.every == 0
		}
		if lose {
			p.Dropped.Add(1)
			continue
		}
		if _, err := client.Write(out); err != nil {
			return
		}
	}
}
