package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// The front's bounds.
const (
	maxGreeting    = 10_000                 // connections that are not served yet; beyond, 503
	maxRefusing    = 32                     // of those may still read that; of more, the oldest are closed
	refuseTime     = 250 * time.Millisecond // for the peer to read it
	acceptBackoff  = 5 * time.Millisecond   // after an error, doubled up to acceptPause
	acceptPause    = time.Second
	retryAfterMin  = 1 // seconds, of Retry-After
	retryAfterSpan = 5
)

// front takes the connections of the public listener. Requests for a WebSocket that
// come whole and plain it serves itself: the HTTP server keeps two buffers, a
// goroutine's stack and a request for each until long after it was taken over.
// Everything else it hands to the HTTP server with the bytes that it has read, also
// what is to be refused.
type front struct {
	// static
	gw   *Gateway
	tls  *tls.Config // nil: none
	lis  net.Listener
	rest *handover
	busy chan struct{} // held by whoever uses a processor for a request

	hellos chan struct{} // the same for TLS's handshake: who is through does not wait again behind others

	mu       sync.Mutex
	greeting map[net.Conn]instant // guarded by mu: until when, or never once the request is there; nil: stopped
	handed   int                  // guarded by mu: open connections of the HTTP server
	refusing []net.Conn           // guarded by mu: have their answer; the oldest is first
	wg       sync.WaitGroup       // those who greet and refuse; added to by Serve's goroutine

	spare *os.File // a descriptor in reserve; owned by Serve's goroutine
	short bool     // descriptors have run out; as spare
}

// Serve takes connections from a listener until server is closed, with TLS if config is
// not nil. It closes the listener. server must have [Gateway.Handler]. The error is
// server's.
func (g *Gateway) Serve(lis net.Listener, config *tls.Config, server *http.Server) error {
	f := &front{
		gw: g, lis: lis, rest: newHandover(lis),
		busy:     make(chan struct{}, 8*runtime.GOMAXPROCS(0)),
		hellos:   make(chan struct{}, 8*runtime.GOMAXPROCS(0)),
		greeting: make(map[net.Conn]instant),
	}
	if config != nil {
		f.tls = config.Clone()
		f.tls.DynamicRecordSizingDisabled = true // a write is a batch of frames already
		f.pace()
	}
	f.spare = openSpare()
	f.wg.Go(f.watch)
	server.ConnContext = noteTLS
	served := make(chan error, 1)
	go func() { served <- server.Serve(f.rest) }()
	f.accept()
	f.stop()
	return <-served
}

// accept takes connections until the listener is closed.
func (f *front) accept() {
	backoff := acceptBackoff
	for {
		conn, err := f.lis.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil:
			backoff = acceptBackoff
			f.take(conn)
		case exhausted(err) && f.vacate():
			f.noteShort(true) // the next connection gets a place, and an answer
		default:
			f.gw.log.Warn("no connection was accepted, trying again", "err", err, "pause", backoff.String())
			if !f.rest.wait(backoff) {
				return
			}
			backoff = min(2*backoff, acceptPause)
		}
	}
}

// exhausted reports whether no descriptor is left, for the process or the system.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// openSpare keeps a descriptor for a connection that is only to be refused; nil if
// there is none.
func openSpare() *os.File {
	spare, err := os.Open(os.DevNull)
	if err != nil {
		return nil
	}
	return spare
}

// vacate gives up the spare descriptor, or else what was refused first. It reports false
// if there is neither.
func (f *front) vacate() bool {
	if f.spare != nil {
		_ = f.spare.Close()
		f.spare = nil
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closeRefusedLocked()
}

// closeRefusedLocked closes what was refused first, if anything was. The lock is held.
func (f *front) closeRefusedLocked() bool {
	if len(f.refusing) == 0 {
		return false
	}
	_ = f.refusing[0].Close()
	f.refusing = f.refusing[1:]
	return true
}

func (f *front) noteShort(short bool) {
	if f.short == short {
		return
	}
	f.short = short
	if short {
		f.gw.log.Warn("no descriptors are left, new connections are refused; raise the limit of open files (ulimit -n)")
	} else {
		f.gw.log.Info("there are descriptors again")
	}
}

// take has a connection greeted, or refuses it where there is no place for it. It does
// not wait.
func (f *front) take(conn net.Conn) {
	if f.spare == nil {
		if f.spare = openSpare(); f.spare == nil {
			f.refuse(conn) // it has the place of the spare
			return
		}
		f.noteShort(false)
	}
	if !f.admit(conn) {
		f.refuse(conn)
	}
}

// admit has a connection greeted, unless there is no place for it.
func (f *front) admit(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.greeting) >= maxGreeting || !f.hasRoomLocked() {
		return false
	}
	f.greeting[conn] = f.gw.now().add(handshakeTimeout)
	f.wg.Go(func() { f.greet(conn) })
	return true
}

// hasRoomLocked reports whether one more connection leaves the descriptors that the node
// needs itself. The lock is held.
func (f *front) hasRoomLocked() bool {
	limit := f.gw.cfg.MaxConnections
	return limit == 0 || len(f.greeting)+f.handed+f.gw.Connections() < limit
}

// hand gives a connection to the HTTP server, with the bytes that were read of it. raw is
// what was accepted.
func (f *front) hand(raw, conn net.Conn, read []byte) {
	f.mu.Lock()
	f.handed++
	delete(f.greeting, raw)
	f.mu.Unlock()
	f.rest.give(&replayConn{Conn: conn, head: read, overTLS: f.tls != nil, gone: sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.handed--
	})})
}

// refuse answers a connection that gets no place, and has it closed later. Over TLS it
// would first need what it does not get.
func (f *front) refuse(conn net.Conn) {
	f.gw.countOverload()
	if f.tls != nil || !answerOverloaded(conn) {
		_ = conn.Close()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.refusing) == maxRefusing {
		f.closeRefusedLocked()
	}
	f.refusing = append(f.refusing, conn)
	f.wg.Go(func() { f.linger(conn) })
}

// answerOverloaded writes the answer to who gets no place, as farewell does.
func answerOverloaded(conn net.Conn) bool {
	seconds := retryAfterMin + int(time.Now().UnixNano()%retryAfterSpan)
	body := fmt.Sprintf("%s retry_ms=%d: this node takes no more connections now\n", room.ReasonOverloaded, 1000*seconds)
	return farewell(conn, fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s", len(body), seconds, body))
}

// farewell writes a last answer, which the kernel takes at once, and reports whether the
// peer may read it in peace.
func farewell(conn net.Conn, answer string) bool {
	_ = conn.SetDeadline(time.Now().Add(refuseTime))
	_, err := io.WriteString(conn, answer)
	half, ok := conn.(interface{ CloseWrite() error })
	return err == nil && ok && half.CloseWrite() == nil
}

// linger closes a connection that has its answer once the peer has, or the time is over.
// Closed over bytes that nobody has read, it would be reset, and the answer could be lost.
func (f *front) linger(conn net.Conn) {
	var request [1 << 10]byte
	for err := error(nil); err == nil; {
		_, err = conn.Read(request[:])
	}
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusing = slices.DeleteFunc(f.refusing, func(c net.Conn) bool { return c == conn })
}

func (g *Gateway) countOverload() {
	g.cfg.Metrics.Rejects.WithLabelValues(string(room.ReasonOverloaded)).Inc()
}

// watch closes connections whose handshake takes too long: a timer for each would cost
// more than the reading of its request.
func (f *front) watch() {
	for f.rest.wait(sweepTime) {
		f.mu.Lock()
		for conn, by := range f.greeting {
			if by != never && f.gw.now() >= by {
				_ = conn.Close()
				delete(f.greeting, conn)
			}
		}
		f.mu.Unlock()
	}
}

// stop closes the connections that are not served yet. Who serves one may go on with it.
func (f *front) stop() {
	f.mu.Lock()
	for conn := range f.greeting {
		_ = conn.Close()
	}
	f.greeting = nil
	f.mu.Unlock()
	_ = f.rest.Close()
	f.wg.Wait()
	if f.spare != nil {
		_ = f.spare.Close()
	}
}
