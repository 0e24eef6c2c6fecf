package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/roomcast/roomcast/internal/wire"
)

// TestProtobufSocket: both subprotocols in one room, the first that is offered counts.
func TestProtobufSocket(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		text := w.guest("?room=chat:1")
		binary := w.offer("", http.Header{"Sec-WebSocket-Protocol": {"mqtt, " + wire.Protobuf.Subprotocol(), wire.JSON.Subprotocol()}})
		if binary.format != wire.Protobuf {
			t.Fatalf("the node chose %q", binary.ws.Subprotocol())
		}
		text.want(`{"subscribed":{"room":"chat:1","position":"@10"}}`)
		binary.want("welcome guest")
		binary.ask(`{"id":1,"subscribe":{"room":"chat:1"}}`, `{"id":1,"subscribed":{"room":"chat:1","position":"@10"}}`)
		text.send(`{"id":2,"publish":{"room":"chat:1","text":"one"}}`)
		binary.want("m chat:1 one")
		binary.send(`{"id":3,"publish":{"room":"chat:1","text":"two"}}`)
		for seen := 0; seen < 2; { // the answer may come before or after the message
			got, err := binary.next()
			if err != nil || got != "m chat:1 two" && !strings.Contains(got, `{"id":3,"published":`) {
				t.Fatalf("got %s, %v", got, err)
			}
			seen++
		}
		binary.ask(`{"id":4,"unsubscribe":{"room":"chat:1"}}`, `{"id":4,"unsubscribed":{"room":"chat:1"}}`)
		binary.ask(`{"id":5,"subscribe":{"room":"chat:1","after":"e.10.h"}}`, `{"id":5,"subscribed":{"room":"chat:1","position":"@10"}}`)
		binary.want("m chat:1 one replayed", "m chat:1 two replayed")
	})
}

// TestWrongFrameType: each subprotocol has one type of frame.
func TestWrongFrameType(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		binary := w.offer("", http.Header{"Sec-WebSocket-Protocol": {wire.Protobuf.Subprotocol()}})
		binary.want("welcome guest")
		binary.raw(frame(fin|text, `{"id":1,"ping":{}}`))
		binary.wantClose(1003, "TEXT_FRAME")
	})
}

// TestProtobufLimit: its frames may not be as long as JSON's, which may escape text.
func TestProtobufLimit(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		binary := w.offer("", http.Header{"Sec-WebSocket-Protocol": {wire.Protobuf.Subprotocol()}})
		binary.want("welcome guest")
		binary.send(`{"id":1,"publish":{"room":"chat:1","text":"` + strings.Repeat("x", 100<<10) + `"}}`)
		binary.wantClose(1009, "PAYLOAD_TOO_LARGE the limit is 81920 bytes")
	})
}
