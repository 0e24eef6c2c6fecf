package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/wire"
)

// tightListener gives connections buffers that hold next to nothing.
type tightListener struct{ net.Listener }

func (l tightListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(8 << 10)
	}
	return conn, err
}

// bufferedConn reads on after a handshake.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// TestModelOverTCP has the model's sockets behind the kernel's: writes that are taken
// in part, epoll, and records of TLS. Peers read only between bursts of messages, so
// that each burst finds every socket full. Time stands still: see onEdge.
func TestModelOverTCP(t *testing.T) {
	t.Parallel()
	for name, withTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var config *tls.Config
			if withTLS {
				config = &tls.Config{Certificates: testCertificates(), NextProtos: []string{"http/1.1"}}
			}
			for seed := range uint64(2) {
				tick := time.NewTicker(realTick)
				defer tick.Stop()
				synctest.Test(t, func(t *testing.T) { runTCP(t, rand.New(rand.NewPCG(seed, 3)), config, tick.C) })
			}
		})
	}
}

func runTCP(t *testing.T, rng *rand.Rand, config *tls.Config, tick <-chan time.Time) {
	t.Helper()
	w := newModel(t, rng, &modelStats{})
	w.log.opens = false
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	lis = tightListener{lis}
	server := &http.Server{Handler: w.gw.Handler(), ReadHeaderTimeout: 10 * time.Second}
	var served sync.WaitGroup
	served.Go(func() { _ = w.gw.Serve(lis, config, server) })
	defer served.Wait()
	defer func() { _ = server.Close() }()
	defer w.hub.Close()
	defer w.gw.Drain(context.Background(), 0)
	defer func() {
		for _, c := range w.clients { // also if the test gives up
			c.hangUp()
		}
	}()

	var gate sync.RWMutex // nobody reads while it is locked
	for i := range 6 {
		w.dialTCP(t, addr, config != nil, rand.New(rand.NewPCG(rng.Uint64(), 0)), wire.Format(i%wire.Formats), &gate, tick)
	}
	w.rounds(rng, &gate)
	w.mark()
	w.await(tick)
	for _, c := range w.clients {
		c.hangUp()
	}
	w.ears.Wait()
	w.gw.Drain(context.Background(), 0)
	for _, c := range w.clients {
		newChecker(c).run()
	}
	if text := w.logs.String(); text != "" {
		t.Errorf("logged: %s", text)
	}
	t.Log(w.stats)
}

// rounds has bursts of messages and requests. The last one ends with messages that
// everybody can tell the end by.
func (w *model) rounds(rng *rand.Rand, gate *sync.RWMutex) {
	rooms := modelRooms[:2]
	for range 6 {
		gate.Lock()
		for _, c := range w.clients {
			name := rooms[c.rng.IntN(len(rooms))]
			switch c.rng.IntN(6) {
			case 0:
				c.unsubscribe(name)
			case 1:
				c.askPing()
			case 2:
				c.flash(name, w.log.someAfter(name))
			default:
				c.subscribe(name, w.log.someAfter(name))
			}
		}
		for range 10 + rng.IntN(200) {
			w.say(rooms[rng.IntN(len(rooms))])
		}
		gate.Unlock()
	}
}

// await waits until everybody has everything.
func (w *model) await(tick <-chan time.Time) {
	ends := w.clients[0].marks[0].ends
	left := realPatience
	for _, c := range w.clients {
		for c.marks = nil; ; {
			c.mark(ends)
			w.log.mu.Lock() // who is behind still reads it
			c.ear.mu.Lock()
			fault := newChecker(c).fault()
			c.ear.mu.Unlock()
			w.log.mu.Unlock()
			if fault == "" {
				break
			}
			if left -= realTick; left < 0 {
				return // the checker says what is wrong
			}
			<-tick
			c.marks = nil
		}
	}
}

// dialTCP opens a guest's socket and reads its welcome.
func (w *model) dialTCP(t *testing.T, addr string, withTLS bool, rng *rand.Rand, format wire.Format, gate *sync.RWMutex, tick <-chan time.Time) {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(8 << 10)
	}
	conn := raw
	if withTLS {
		conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	if _, err := conn.Write([]byte(request("Sec-WebSocket-Protocol: " + format.Subprotocol()))); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 16)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", answer, err)
	}
	_ = answer.Body.Close()
	c := &modelClient{
		w: w, user: auth.GuestUser, format: format, rng: rng, conn: bufferedConn{conn, in},
		ear: &earshot{}, writing: make(chan struct{}, 1), tick: tick,
	}
	welcome := make(chan struct{})
	w.ears.Go(func() {
		first := true
		c.ear.listen(c, c.conn, func() {
			if first && len(c.ear.in.frames) > 0 {
				first = false
				close(welcome)
			}
			gate.RLock()
			defer gate.RUnlock()
		})
	})
	<-welcome
	for _, s := range w.gw.roster.all() { // the one that is new
		if !slices.ContainsFunc(w.clients, func(other *modelClient) bool { return other.s == s }) {
			c.s = s
		}
	}
	w.clients = append(w.clients, c)
}

// testCertificates are those of net/http/httptest.
func testCertificates() []tls.Certificate {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	return server.TLS.Certificates
}
