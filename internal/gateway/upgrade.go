package gateway

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

const (
	handshakeTimeout = 10 * time.Second
	maxQueryRooms    = 100
)

// admission is a request for a WebSocket that is granted.
type admission struct {
	format  wire.Format
	remote  string
	queries []string     // ?room=
	caller  *auth.Caller // nil: the first frame brings the token
	answer  []byte       // of the handshake
}

// refusal is why a request gets no WebSocket.
type refusal struct {
	status int
	reason room.Reason
	msg    string
}

// judge takes a request through handshake, origin, subprotocol and token.
func (g *Gateway) judge(r *http.Request) (*admission, *refusal) {
	if fault := checkHandshake(r); fault != nil {
		return nil, &refusal{fault.status, room.ReasonHandshake, fault.msg}
	}
	if g.drain.refuses.Load() {
		return nil, &refusal{http.StatusServiceUnavailable, room.ReasonDraining, "this node is draining, connect to another"}
	}
	if !g.origins.allows(r) {
		return nil, &refusal{http.StatusForbidden, room.ReasonOrigin, "the page's Origin is not allowed; see --allowed-origins"}
	}
	format, subprotocol, ok := chooseFormat(r)
	if !ok {
		return nil, &refusal{http.StatusBadRequest, room.ReasonSubprotocol, "none of the offered subprotocols is served; offer " +
			wire.JSON.Subprotocol() + ", " + wire.Protobuf.Subprotocol() + " or none, which means the first"}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, room.ReasonHandshake, "the query cannot be decoded"}
	}
	if len(query["room"]) > maxQueryRooms {
		return nil, &refusal{http.StatusBadRequest, room.ReasonTooManyRooms, "too many room parameters; the limit is 100, use subscribe frames"}
	}
	caller, err := g.authenticate(r, query)
	if err != nil {
		e := room.AsError(err)
		return nil, &refusal{http.StatusUnauthorized, e.Reason, e.Msg}
	}
	answer, err := switching(r, subprotocol)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, room.ReasonHandshake, err.Error()}
	}
	return &admission{
		format: format, remote: g.proxies.clientAddr(r), queries: query["room"], caller: caller, answer: answer,
	}, nil
}

// serveSocket serves the requests for a WebSocket that the front has handed on: those
// that are refused, and those that are not a connection's first. It returns when the
// connection is a session's: nothing of the request stays.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	a, no := g.judge(r)
	if no != nil {
		g.reject(w, r, no)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		g.log.Debug("handshake", "remote", a.remote, "err", err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	early, _ := buffered.Peek(buffered.Reader.Buffered()) // it has so many
	early = bytes.Clone(early)
	if replay, ok := conn.(*replayConn); ok {
		replay.gone()
		conn, early = replay.Conn, append(early, replay.head...)
	}
	if s := g.open(conn, a); s != nil {
		go s.begin(a.caller, early)
	}
}

// chooseFormat returns the format of the first subprotocol that the client offers and
// that is served, and its name; offering none means JSON.
func chooseFormat(r *http.Request) (format wire.Format, subprotocol string, ok bool) {
	list := offered(r)
	for _, name := range list {
		if format, ok = wire.FormatOf(name); ok {
			return format, name, true
		}
	}
	return wire.JSON, "", len(list) == 0
}

// authenticate finds the token where the contract says. No token is no error: the
// first frame may bring it.
func (g *Gateway) authenticate(r *http.Request, query url.Values) (*auth.Caller, error) {
	if headers := r.Header["Authorization"]; len(headers) > 0 {
		scheme, rest, _ := strings.Cut(headers[0], " ")
		if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return nil, room.Errorf(room.Unauthenticated, room.ReasonTokenInvalid, "the Authorization header is not of the form: Bearer TOKEN")
		}
		return g.cfg.Verifier.Verify(strings.TrimSpace(rest), time.Now())
	}
	if token := query.Get("access_token"); token != "" && g.cfg.TokenInQuery {
		return g.cfg.Verifier.Verify(token, time.Now())
	}
	return g.cfg.Anonymous, nil
}

// reject answers a request that gets no socket.
func (g *Gateway) reject(w http.ResponseWriter, r *http.Request, no *refusal) {
	g.cfg.Metrics.Rejects.WithLabelValues(string(no.reason)).Inc()
	g.log.Debug("rejected", "remote", g.proxies.clientAddr(r), "status", no.status, "reason", no.reason)
	switch no.status {
	case http.StatusUpgradeRequired:
		w.Header().Set("Upgrade", "websocket") // RFC 9110 §15.5.22
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455 §4.4
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, string(no.reason)+": "+no.msg, no.status)
}
