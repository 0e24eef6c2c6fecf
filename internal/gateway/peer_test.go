package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/wire"
)

// peer is a client of a world: gorilla's, which answers pings while it reads.
type peer struct {
	t      testing.TB
	ws     *websocket.Conn
	format wire.Format // what it sends and shows is JSON all the same
	real   bool        // its time is not the bubble's
}

// dial opens a socket. path is what follows /v1/ws; an empty token sends none.
func (w *world) dial(path, token string) *peer {
	w.t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return w.offer(path, header)
}

// offer opens a socket with a header, whose subprotocol counts.
func (w *world) offer(path string, header http.Header) *peer {
	w.t.Helper()
	dialer := websocket.Dialer{NetDialContext: w.listener.dial}
	ws, answer, err := dialer.DialContext(context.Background(), "ws://node/v1/ws"+path, header)
	if err != nil {
		w.t.Fatalf("dial: %v (%+v)", err, answer)
	}
	_ = answer.Body.Close()
	w.t.Cleanup(func() { _ = ws.Close() })
	format, _ := wire.FormatOf(ws.Subprotocol())
	return &peer{t: w.t, ws: ws, format: format}
}

// guest opens a socket of a guest and reads its welcome.
func (w *world) guest(path string) *peer {
	w.t.Helper()
	p := w.dial(path, "")
	p.want("welcome guest")
	return p
}

func (p *peer) send(frames ...string) {
	p.t.Helper()
	for _, f := range frames {
		kind, data := websocket.TextMessage, []byte(f)
		if p.format == wire.Protobuf {
			frame, err := wire.JSON.DecodeClient(data)
			if err != nil {
				p.t.Fatal(err)
			}
			kind = websocket.BinaryMessage
			if data, err = proto.Marshal(frame); err != nil {
				p.t.Fatal(err)
			}
		}
		if err := p.ws.WriteMessage(kind, data); err != nil {
			p.t.Fatalf("send %s: %v", f, err)
		}
	}
}

// raw writes bytes below the WebSocket.
func (p *peer) raw(data string) {
	p.t.Helper()
	if _, err := p.ws.NetConn().Write([]byte(data)); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// patience bounds the wait for one frame, in the bubble's time.
const patience = time.Hour

// realPatience bounds what waits for the kernel.
const realPatience = time.Minute

func (p *peer) next() (string, error) {
	within := patience
	if p.real {
		within = realPatience
	}
	_ = p.ws.SetReadDeadline(time.Now().Add(within))
	kind, data, err := p.ws.ReadMessage()
	switch {
	case err != nil:
	case kind == websocket.BinaryMessage && p.format == wire.Protobuf:
		var frame roomcastv1.ServerFrame
		if err = proto.Unmarshal(data, &frame); err == nil {
			data = wire.JSON.EncodeServer(&frame)
		}
	case kind != websocket.TextMessage || p.format != wire.JSON:
		err = fmt.Errorf("frame of kind %d", kind)
	}
	return shown(data), err
}

// want reads frames and compares them as shown prints them.
func (p *peer) want(frames ...string) {
	p.t.Helper()
	for _, want := range frames {
		got, err := p.next()
		if err != nil {
			p.t.Fatalf("wanted %s, got %v", want, err)
		}
		if got != want {
			p.t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// ask sends one request and reads its answer.
func (p *peer) ask(request, answer string) {
	p.t.Helper()
	p.send(request)
	p.want(answer)
}

// wantClose reads on to the close frame. Frames before it are passed over.
func (p *peer) wantClose(code int, reason string) {
	p.t.Helper()
	for {
		_, err := p.next()
		if err == nil {
			continue
		}
		fault, ok := errors.AsType[*websocket.CloseError](err)
		if !ok || fault.Code != code || fault.Text != reason {
			p.t.Fatalf("ended with %v, want close %d %q", err, code, reason)
		}
		return
	}
}

var (
	positionRE = regexp.MustCompile(`\be\.(\d+)\.[0-9a-z]+`)
	messageRE  = regexp.MustCompile(`"message":"(?:[^"\\]|\\.)*"`)
)

// shown prints a frame of the server in short: "m ROOM TEXT" and "welcome USER"; of
// positions only the sequence, of errors all but the text for people.
func shown(data []byte) string {
	var f struct {
		Message *struct {
			Room, ID, Text string
			Replayed       bool
		}
		Welcome *struct{ User string }
	}
	if json.Unmarshal(data, &f) == nil {
		switch {
		case f.Welcome != nil:
			return "welcome " + f.Welcome.User
		case f.Message != nil && f.Message.Replayed:
			return fmt.Sprintf("m %s %s replayed", f.Message.Room, f.Message.Text)
		case f.Message != nil:
			return fmt.Sprintf("m %s %s", f.Message.Room, f.Message.Text)
		}
	}
	return messageRE.ReplaceAllString(positionRE.ReplaceAllString(string(data), "@$1"), `"message":…`)
}
