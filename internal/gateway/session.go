package gateway

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// session is one open socket: a goroutine reads it, its flusher writes it.
type session struct {
	// static
	gw      *Gateway
	conn    net.Conn // nil: parking has its descriptor
	id      string   // unique in the cluster
	format  wire.Format
	remote  string
	since   instant
	flusher *flusher
	queries []string // ?room= of the request; owned by the reader

	caller atomic.Pointer[auth.Caller] // nil until authenticated; stored by the roster
	links  links                       // guarded by Gateway.roster.mu
	rooms  rooms                       // its own lock

	in      io.Reader // static after open
	parking *fdSocket // static after open; nil: a goroutine waits in Read
	reader  requests  // owned by the reader
	out     outbox    // its own lock
	w       writer    // owned by the flusher's goroutine

	queued   atomic.Bool  // in the flusher's queue
	writable atomic.Bool  // the socket takes more
	readDone atomic.Bool  // the reader has ended
	reading  atomic.Bool  // a worker reads; else the socket is parked
	stallBy  atomic.Int64 // when the message that has begun must be whole, an instant
	dropped  atomic.Bool  // the connection is closed

	pinged   atomic.Bool  // a ping has no answer yet
	held     atomic.Bool  // the reader waits for this node, not for the peer
	resumed  atomic.Int64 // when it last stopped doing so, an instant
	leaves   atomic.Bool  // it is to move to another node
	told     atomic.Bool  // the peer knows that
	received atomic.Int64 // bytes
	knows    room.Reason  // why the peer believes that the node is degraded; guarded by Gateway.degraded.mu
}

func newSession(g *Gateway, conn net.Conn, a *admission) *session {
	id := strings.ToLower(rand.Text()[:16])
	s := &session{
		gw:      g,
		conn:    conn,
		id:      id,
		remote:  a.remote,
		since:   g.now(),
		queries: a.queries,
		format:  a.format,
		flusher: g.nextFlusher(),
	}
	s.reading.Store(true) // by begin
	s.queued.Store(true)  // by readFirst
	s.w.index, s.w.pingAt = notFlushed, s.since.add(g.cfg.PingInterval)
	return s
}

// begin serves the socket. caller is nil if the first frame has to bring the token;
// early is what the peer has sent already.
func (s *session) begin(caller *auth.Caller, early []byte) {
	s.guard("reader", func() { s.readFirst(caller, early) })
}

// end is the session's last: neither its reader nor its flusher has anything to do
// with it any more.
func (s *session) end() {
	defer s.gw.remove(s)
	if s.parking != nil {
		s.parking.close()
	} else {
		_ = s.conn.Close()
	}
	s.guard("leave", s.rooms.end)
	s.ended()
}

// guard runs a part of the session: a panic costs this socket, not the process.
func (s *session) guard(part string, f func()) {
	ok := false
	defer func() {
		if ok {
			return
		}
		s.log().Error("panic", "part", part, "panic", recover(), "stack", string(debug.Stack()))
		s.shut(closeInternal)
		s.readEnded()
	}()
	f()
	ok = true
}

// ended logs the one line that every connection leaves.
func (s *session) ended() {
	how := s.out.how()
	s.gw.cfg.Metrics.Closes.WithLabelValues(how.label()).Inc()
	attrs := []any{
		"user", s.User(), "remote", s.remote, "code", how.code, "reason", how.word,
		"duration", time.Duration(s.gw.now() - s.since).Round(time.Millisecond).String(), // a Duration is nanoseconds in JSON
		"bytes_in", s.received.Load(), "bytes_out", s.w.sent,
	}
	if how.refused != nil {
		attrs = append(attrs, "err", how.refused)
	}
	s.log().Info("connection ended", attrs...)
}

// log returns a logger that names the connection. It is made when needed: most
// sockets log one line in their life.
func (s *session) log() *slog.Logger { return s.gw.log.With("connection", s.id) }

// User returns whose socket it is; empty before authentication.
func (s *session) User() string {
	if c := s.caller.Load(); c != nil {
		return c.User
	}
	return ""
}

// Connection names the socket in the cluster.
func (s *session) Connection() string { return s.id }

// Format is how the socket's frames are written.
func (s *session) Format() wire.Format { return s.format }

// Lane is the flusher's half of the hub.
func (s *session) Lane() *hub.Lane { return s.flusher.lane }

// Behind takes note that a cursor needs a turn. The hub may call it with a room's lock
// held.
func (s *session) Behind(c *hub.Cursor) {
	s.out.behindOf(c)
	s.signal()
}

// signal asks the flusher for a turn.
func (s *session) signal() {
	if s.queued.CompareAndSwap(false, true) {
		s.flusher.push(task{session: s})
	}
}

// ready takes note that the socket takes more.
func (s *session) ready() {
	s.writable.Store(true)
	s.signal()
}

// shut begins to close the socket; the first call counts, and it reports whether this is
// it. What is queued before it is still written, for a second at most.
func (s *session) shut(how closing) bool {
	if !s.out.close(how) {
		return false
	}
	s.signal()
	return true
}

// cut is shut, and takes the socket out of its rooms: when it returns no message is
// handed to it any more, but for one that is being written just now.
func (s *session) cut(how closing) bool {
	first := s.shut(how)
	s.rooms.end()
	return first
}

// gone ends a socket whose peer is gone: nothing more can be written.
func (s *session) gone() {
	s.shut(closeGone)
	s.drop()
}

// drop ends the connection below TLS: a peer that does not read would make the
// alert that TLS ends with wait for seconds.
func (s *session) drop() {
	s.dropped.Store(true)
	if s.parking != nil {
		s.parking.hangUp()
	} else {
		_ = belowTLS(s.conn).Close()
	}
	s.signal() // nothing else would tell the flusher, if the reader has ended
}

// belowTLS returns the connection that TLS, if any, runs on.
func belowTLS(conn net.Conn) net.Conn {
	for {
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = outer.NetConn()
	}
}
