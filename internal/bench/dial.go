package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 asks for it
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

const (
	handshakeTimeout = 30 * time.Second // until subscribed
	handshakeBuffer  = 16 << 10
	websocketGUID    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 §1.3
)

// dialer opens sockets at one public listener.
type dialer struct {
	addr   string      // host:port
	tls    *tls.Config // nil = plain TCP
	prefix string      // the request up to the room
	suffix string      // and after it
	accept string      // the answer to the request's key
}

// newDialer prepares the request that all sockets send; only room and token differ.
func newDialer(address string, format Format, config *tls.Config) (*dialer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	encrypted := u.Scheme == "https" || u.Scheme == "wss"
	if !encrypted && u.Scheme != "http" && u.Scheme != "ws" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("URL %q is not of the form http://host:port, or with https, ws or wss", address)
	}
	d := &dialer{addr: u.Host}
	if u.Port() == "" {
		d.addr = net.JoinHostPort(u.Hostname(), map[bool]string{true: "443", false: "80"}[encrypted])
	}
	if encrypted {
		d.tls = config.Clone()
		if d.tls == nil {
			d.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		d.tls.ServerName = u.Hostname()
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if path == "" {
		path = "/v1/ws"
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, as documented
	key := base64.StdEncoding.EncodeToString(random[:])
	sum := sha1.Sum([]byte(key + websocketGUID)) //nolint:gosec // RFC 6455 §4.2.2
	d.accept = base64.StdEncoding.EncodeToString(sum[:])
	d.prefix = "GET " + path + "?room="
	d.suffix = " HTTP/1.1\r\nHost: " + u.Host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n" +
		"Sec-WebSocket-Protocol: " + format.subprotocol() + "\r\n"
	return d, nil
}

// open connects a socket and returns once it has subscribed. buf is scratch.
func (d *dialer) open(ctx context.Context, s *socket, buf []byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := d.dial(ctx, s.lane == s.lane.load.aside)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err = conn.SetDeadline(deadline); err == nil {
		err = d.handshake(conn, s, buf)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // the error tells
		return nil, err
	}
	return conn, nil
}

// dial connects. What a narrow connection does not read the kernel holds for it only for
// a moment, as of a phone.
func (d *dialer) dial(ctx context.Context, narrow bool) (net.Conn, error) {
	plain := &net.Dialer{}
	if narrow {
		plain.Control = smallBuffer
	}
	if d.tls == nil {
		return plain.DialContext(ctx, "tcp", d.addr)
	}
	return (&tls.Dialer{NetDialer: plain, Config: d.tls}).DialContext(ctx, "tcp", d.addr)
}

// handshake upgrades the connection and reads until the room is subscribed.
func (d *dialer) handshake(conn net.Conn, s *socket, buf []byte) error {
	room := s.lane.load.rooms[s.room]
	if strings.ContainsAny(s.token, "\r\n") {
		return errors.New("the token has a line end")
	}
	request := d.prefix + url.QueryEscape(room) + d.suffix
	if s.token != "" {
		request += "Authorization: Bearer " + s.token + "\r\n"
	}
	if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	n, head := 0, -1
	for head < 0 {
		read, err := conn.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
		n += read
		head = bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if head < 0 && n == len(buf) {
			return errors.New("handshake: the answer's header is too long")
		}
	}
	if err := d.checkAnswer(buf[:head], buf[head+4:n]); err != nil {
		return err
	}
	return s.awaitSubscribed(conn, buf, copy(buf, buf[head+4:n]))
}

func (d *dialer) checkAnswer(head, body []byte) error {
	status, _, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("handshake: %s: %s", status, bytes.TrimSpace(body))
	}
	if !bytes.Contains(head, []byte(d.accept)) {
		return errors.New("handshake: no answer to the key")
	}
	return nil
}

// awaitSubscribed reads frames; the first n bytes of buf are there already.
func (s *socket) awaitSubscribed(conn net.Conn, buf []byte, n int) error {
	s.lane.mu.Lock()
	s.conn = conn
	s.lane.mu.Unlock()
	for {
		s.lane.mu.Lock()
		used, err := s.lane.take(s, buf[:n], s.lane.load.clock.now())
		s.lane.flush()
		subscribed := s.subscribed
		n = copy(buf, buf[used:n])
		if subscribed {
			s.rest = append(s.rest[:0], buf[:n]...)
		}
		s.lane.mu.Unlock()
		if err != nil || subscribed {
			return err
		}
		if n == len(buf) {
			return errors.New("subscribe: a frame is too long")
		}
		read, err := conn.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		n += read
	}
}
