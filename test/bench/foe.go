package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// foe is a client that does not do what it should.
type foe struct {
	url     string // host:port
	token   string
	conn    net.Conn
	in      *bufio.Reader
	release <-chan struct{} // closed when a deaf one may read

	since   time.Time     // it owes the rest, or reads nothing
	answers chan struct{} // text frames have come, the newest at least
	over    chan struct{} // closed with the end

	end    string        // code and word of the close frame, or that there was none; valid after over
	told   time.Time     // when that came; as end
	lasted time.Duration // from since to then
}

const (
	goneSilently = "no close frame"
	foeBuffer    = 512
	smallBuffer  = 16 << 10 // of one that does not read
)

// dial connects.
func (f *foe) dial(ctx context.Context) error {
	var d net.Dialer
	var err error
	if f.conn, err = d.DialContext(ctx, "tcp", f.url); err != nil {
		return err
	}
	f.in = bufio.NewReaderSize(f.conn, foeBuffer)
	f.since = time.Now()
	return nil
}

// request is the whole request for a socket.
func (f *foe) request(query, token string) string {
	text := "GET /v1/ws" + query + " HTTP/1.1\r\nHost: " + f.url + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
	if token != "" {
		text += "Authorization: Bearer " + token + "\r\n"
	}
	return text + "\r\n"
}

// upgrade makes the connection a socket.
func (f *foe) upgrade(query, token string) error {
	if _, err := io.WriteString(f.conn, f.request(query, token)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(f.in, nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %s", resp.Status)
	}
	f.since = time.Now()
	return nil
}

// trickle writes one byte at a time, until it is all written or the connection ends.
func (f *foe) trickle(text string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	f.since = time.Now()
	for i := range len(text) {
		if _, err := io.WriteString(f.conn, text[i:i+1]); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-f.over:
			return
		}
	}
}

// listen reads to the end of the connection.
func (f *foe) listen() {
	defer close(f.over)
	f.end = goneSilently
	for {
		op, payload, err := f.frame()
		if err != nil {
			break
		}
		switch op {
		case websocket.CloseMessage:
			f.told = time.Now() // it goes on: the node has to close
			f.end = closeText(payload)
		case websocket.TextMessage:
			select {
			case f.answers <- struct{}{}:
			default:
			}
		}
	}
	if f.told.IsZero() {
		f.told = time.Now()
	}
}

// frame reads a frame and returns the payload of a short one, RFC 6455 §5.2.
func (f *foe) frame() (op int, payload []byte, err error) {
	var header [8]byte
	if _, err := io.ReadFull(f.in, header[:2]); err != nil {
		return 0, nil, err
	}
	op = int(header[0] & 0x0F)
	size := int(header[1])
	switch size {
	case 126:
		_, err = io.ReadFull(f.in, header[:2])
		size = int(binary.BigEndian.Uint16(header[:2]))
	case 127:
		_, err = io.ReadFull(f.in, header[:8])
		size = int(binary.BigEndian.Uint64(header[:8]))
	}
	if err != nil {
		return 0, nil, err
	}
	if op != websocket.CloseMessage {
		_, err = f.in.Discard(size)
		return op, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(f.in, payload)
	return op, payload, err
}

// closeText is the code and the machine word of a close frame.
func closeText(payload []byte) string {
	if len(payload) < 2 {
		return "a close frame without a code"
	}
	var word string
	_, _ = fmt.Sscan(string(payload[2:]), &word) // none is none
	return fmt.Sprintf("%d %s", binary.BigEndian.Uint16(payload), word)
}

// masked is a text frame of a client, with a mask of zeros.
func masked(text string) string {
	return string([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}) + text
}
