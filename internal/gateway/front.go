package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// The front's bounds.
const (
	maxGreeting    = 10_000                 // connections that are not served yet; beyond, 503
	maxRefusing    = 256                    // of them, wait until the peer has read that; beyond, it is closed at once
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
	busy chan struct{} // held by whoever uses a processor for a handshake

	mu       sync.Mutex
	greeting map[net.Conn]instant // guarded by mu: until when, or never once the request is there; nil: stopped
	handed   int                  // guarded by mu: open connections of the HTTP server
	refusing int                  // guarded by mu
	wg       sync.WaitGroup       // those who greet and refuse; added to under mu

	spare *os.File // a descriptor in reserve; owned by Serve's goroutine
	short bool     // descriptors have run out; as spare
}

// Serve takes connections from a listener until server is closed or the listener
// fails, with TLS if config is not nil. It closes the listener. server must have
// [Gateway.Handler]. The error is server's.
func (g *Gateway) Serve(lis net.Listener, config *tls.Config, server *http.Server) error {
	f := &front{
		gw: g, lis: lis, rest: newHandover(lis),
		busy:     make(chan struct{}, 8*runtime.GOMAXPROCS(0)),
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
	err := f.accept()
	f.stop()
	if closed := <-served; err == nil {
		err = closed
	}
	return err
}

// accept takes connections until the listener is closed; then it returns nil.
func (f *front) accept() error {
	backoff := acceptBackoff
	for {
		conn, err := f.lis.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err == nil:
			backoff = acceptBackoff
			f.take(conn)
		case exhausted(err) && f.spare != nil:
			f.noteShort(true)
			_ = f.spare.Close() // the next connection gets its place, and an answer
			f.spare = nil
		default:
			f.gw.log.Warn("no connection was accepted, trying again", "err", err, "pause", backoff.String())
			if !f.rest.wait(backoff) {
				return nil
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

// take has a connection greeted, or refused where there is no place for it.
func (f *front) take(conn net.Conn) {
	if f.spare == nil {
		if f.spare = openSpare(); f.spare == nil {
			f.refuse(conn) // it has the place of the spare, which is needed back
			f.spare = openSpare()
			return
		}
		f.noteShort(false)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.greeting == nil:
		_ = conn.Close() // stopped
	case len(f.greeting) < maxGreeting && f.hasRoomLocked():
		f.greeting[conn] = f.gw.now().add(handshakeTimeout)
		f.wg.Go(func() { f.greet(conn) })
	case f.refusing < maxRefusing:
		f.refusing++
		f.wg.Go(func() {
			f.refuse(conn)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.refusing--
		})
	default:
		f.gw.countOverload()
		_ = conn.Close()
	}
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

// refuse answers a connection that gets no place, and closes it once the peer has read
// that. Over TLS it would first need what it does not get.
func (f *front) refuse(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	f.gw.countOverload()
	if f.tls != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(refuseTime))
	seconds := retryAfterMin + int(time.Now().UnixNano()%retryAfterSpan)
	body := fmt.Sprintf("%s retry_ms=%d: this node takes no more connections now\n", room.ReasonOverloaded, 1000*seconds)
	_, err := fmt.Fprintf(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\nRetry-After: %d\r\nConnection: close\r\n\r\n%s", len(body), seconds, body)
	if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		// Closed over bytes that nobody has read, it would be reset, and the answer lost.
		var request [1 << 10]byte
		for err == nil {
			_, err = conn.Read(request[:])
		}
	}
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
