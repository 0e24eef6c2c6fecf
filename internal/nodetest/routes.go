package nodetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
)

// Routes are the connections between a cluster's servers. Each direction of each can
// be held back, the system's own apart from the accounts': NATS keeps them apart too.
type Routes struct {
	wg sync.WaitGroup

	mu      sync.Mutex
	doors   []*door
	pipes   map[*pipe]struct{}
	held    func(*pipe) bool // nil = nothing is held back
	stopped bool
}

// door is where the routes to one server come in.
type door struct {
	lis    net.Listener
	target string // guarded by Routes.mu; empty until the server is there
}

// pipe is one direction of one route.
type pipe struct {
	dst      net.Conn
	from, to string // servers; empty until they are known
	system   bool   // of the system account
	buf      []byte // what is held back
}

func startRoutes(t testing.TB, servers int) *Routes {
	t.Helper()
	r := &Routes{pipes: make(map[*pipe]struct{})}
	for i := range servers {
		lis, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
		if err != nil {
			t.Fatal(err)
		}
		d := &door{lis: lis}
		r.doors = append(r.doors, d)
		r.wg.Go(func() { r.accept(d, serverName(i)) })
	}
	t.Cleanup(r.stop)
	return r
}

func (r *Routes) address(i int) string { return r.doors[i].lis.Addr().String() }

// lead makes a door lead to a server.
func (r *Routes) lead(i int, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doors[i].target = target
}

// Hold holds back what one server sends to another, of the system's routes or of the
// accounts', until Release. What was held before goes on being held.
func (r *Routes) Hold(from, to int, system bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.held
	r.held = func(p *pipe) bool {
		return p.from == serverName(from) && p.to == serverName(to) && p.system == system || before != nil && before(p)
	}
}

// Holds reports whether a text is in what is held back.
func (r *Routes) Holds(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pipes {
		if bytes.Contains(p.buf, []byte(text)) {
			return true
		}
	}
	return false
}

// Release lets everything go on, in its order.
func (r *Routes) Release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = nil
	for p := range r.pipes {
		_, _ = p.dst.Write(p.buf) // it may have gone
		p.buf = nil
	}
}

func (r *Routes) stop() {
	r.mu.Lock()
	r.stopped = true
	for p := range r.pipes {
		_ = p.dst.Close()
	}
	r.mu.Unlock()
	for _, d := range r.doors {
		_ = d.lis.Close()
	}
	r.wg.Wait()
}

func (r *Routes) accept(d *door, name string) {
	for {
		client, err := d.lis.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		target := d.target
		r.mu.Unlock()
		server, err := net.Dial("tcp", target) //nolint:noctx // ends with the test
		if err != nil {
			_ = client.Close() // it tries again
			continue
		}
		there, back := &pipe{dst: server}, &pipe{dst: client}
		r.mu.Lock()
		ended := r.stopped
		r.pipes[there], r.pipes[back] = struct{}{}, struct{}{}
		r.mu.Unlock()
		r.wg.Go(func() { r.copyThere(there, back, client, name) })
		r.wg.Go(func() { r.copy(back, there, server) })
		if ended {
			r.drop(there, back)
		}
	}
}

// copyThere copies what the soliciting server sends; its INFO tells who it is.
func (r *Routes) copyThere(there, back *pipe, src net.Conn, name string) {
	in := bufio.NewReaderSize(src, 64<<10)
	for there.from == "" {
		line, err := in.ReadBytes('\n')
		if err != nil {
			r.drop(there, back)
			return
		}
		if body, ok := bytes.CutPrefix(line, []byte("INFO ")); ok {
			var info struct {
				Name    string `json:"server_name"`
				Account string `json:"route_account"`
			}
			_ = json.Unmarshal(body, &info) // what is no INFO of a server names none
			r.mu.Lock()
			there.from, there.to, back.from, back.to = info.Name, name, name, info.Name
			there.system = info.Account == "$SYS"
			back.system = there.system
			r.mu.Unlock()
		}
		r.forward(there, line)
	}
	r.copy(there, back, in)
}

func (r *Routes) copy(p, other *pipe, src io.Reader) {
	defer r.drop(p, other)
	chunk := make([]byte, 64<<10)
	for {
		n, err := src.Read(chunk)
		r.forward(p, chunk[:n])
		if err != nil {
			return
		}
	}
}

func (r *Routes) forward(p *pipe, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p.buf) > 0 || r.held != nil && r.held(p) {
		p.buf = append(p.buf, data...)
		return
	}
	_, _ = p.dst.Write(data) // the reader notices
}

func (r *Routes) drop(pipes ...*pipe) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range pipes {
		_ = p.dst.Close()
		delete(r.pipes, p)
	}
}
