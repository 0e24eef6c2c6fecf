package gateway

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// upgrader answers handshakes. What it would check has been checked, with a reason for
// each refusal.
var upgrader = websocket.Upgrader{ //nolint:gochecknoglobals // a table
	CheckOrigin: func(*http.Request) bool { return true },
	Error:       func(http.ResponseWriter, *http.Request, int, error) {},

	WriteBufferPool: &sync.Pool{}, // never used; without it each answer gets a buffer of 4 KiB
}

// switching returns gorilla's answer to a handshake, RFC 6455 §4.2.2. It goes out with
// the first frames, so gorilla does not get the connection.
func switching(r *http.Request, subprotocol string) ([]byte, error) {
	p := papers.Get().(*paper) //nolint:forcetypeassert // the pool has nothing else
	defer papers.Put(p)
	p.answer.Reset()
	var header http.Header
	if subprotocol != "" {
		header = http.Header{"Sec-Websocket-Protocol": {subprotocol}}
	}
	if _, err := upgrader.Upgrade(p, r, header); err != nil {
		return nil, err
	}
	return bytes.Clone(p.answer.Bytes()), nil
}

// paper is a response that can be hijacked, and the connection under it: it keeps what
// is written.
type paper struct {
	net.Conn // nil: nobody reads

	answer bytes.Buffer
	io     *bufio.ReadWriter
}

// papers have the buffers that gorilla would make for each connection.
var papers = sync.Pool{New: func() any { //nolint:gochecknoglobals // a pool
	p := &paper{}
	p.io = bufio.NewReadWriter(bufio.NewReaderSize(p, 512), bufio.NewWriterSize(p, 512))
	return p
}}

func (p *paper) Hijack() (net.Conn, *bufio.ReadWriter, error) { return p, p.io, nil }
func (p *paper) Header() http.Header                          { return http.Header{} }
func (p *paper) WriteHeader(int)                              {}
func (p *paper) Write(b []byte) (int, error)                  { return p.answer.Write(b) }
func (p *paper) Close() error                                 { return nil }
func (p *paper) SetDeadline(time.Time) error                  { return nil }
