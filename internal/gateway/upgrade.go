package gateway

import (
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

// serveSocket takes a request through handshake, origin, subprotocol and token to a
// WebSocket, then hands its connection to a session and returns: nothing of the
// request stays.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	if fault := checkHandshake(r); fault != nil {
		g.reject(w, r, fault.status, room.ReasonHandshake, fault.msg)
		return
	}
	if g.drain.refuses.Load() {
		w.Header().Set("Retry-After", "1")
		g.reject(w, r, http.StatusServiceUnavailable, room.ReasonDraining, "this node is draining, connect to another")
		return
	}
	if !g.origins.allows(r) {
		g.reject(w, r, http.StatusForbidden, room.ReasonOrigin, "the page's Origin is not allowed; see --allowed-origins")
		return
	}
	format, ok := chooseFormat(r)
	if !ok {
		g.reject(w, r, http.StatusBadRequest, room.ReasonSubprotocol, "none of the offered subprotocols is served; offer "+
			wire.JSON.Subprotocol()+", "+wire.Protobuf.Subprotocol()+" or none, which means the first")
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		g.reject(w, r, http.StatusBadRequest, room.ReasonHandshake, "the query cannot be decoded")
		return
	}
	if len(query["room"]) > maxQueryRooms {
		g.reject(w, r, http.StatusBadRequest, room.ReasonTooManyRooms, "too many room parameters; the limit is 100, use subscribe frames")
		return
	}
	caller, err := g.authenticate(r, query)
	if err != nil {
		e := room.AsError(err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		g.reject(w, r, http.StatusUnauthorized, e.Reason, e.Msg)
		return
	}
	ws, err := g.upgrader.Upgrade(w, r, nil)
	if err != nil {
		g.cfg.Metrics.Rejects.WithLabelValues(string(room.ReasonHandshake)).Inc()
		g.log.Debug("handshake", "remote", g.proxies.clientAddr(r), "err", err)
		return
	}
	limitUnsent(belowTLS(ws.NetConn()))
	g.serve(newSession(g, ws.NetConn(), format, g.proxies.clientAddr(r), query["room"]), caller)
}

// chooseFormat returns the format of the first subprotocol that the client offers and
// that is served; offering none means JSON. It leaves only that one to the upgrader,
// which reads but the first of several header lines.
func chooseFormat(r *http.Request) (format wire.Format, ok bool) {
	list := offered(r)
	r.Header.Del("Sec-Websocket-Protocol")
	for _, name := range list {
		if format, ok = wire.FormatOf(name); ok {
			r.Header.Set("Sec-Websocket-Protocol", name)
			return format, true
		}
	}
	return wire.JSON, len(list) == 0
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
func (g *Gateway) reject(w http.ResponseWriter, r *http.Request, status int, reason room.Reason, msg string) {
	g.cfg.Metrics.Rejects.WithLabelValues(string(reason)).Inc()
	g.log.Debug("rejected", "remote", g.proxies.clientAddr(r), "status", status, "reason", reason)
	refuse(w, status, string(reason)+": "+msg)
}

func refuse(w http.ResponseWriter, status int, msg string) {
	switch status {
	case http.StatusUpgradeRequired:
		w.Header().Set("Upgrade", "websocket") // RFC 9110 §15.5.22
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455 §4.4
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodGet)
	}
	http.Error(w, msg, status)
}
