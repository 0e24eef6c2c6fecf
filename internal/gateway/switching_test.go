package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The key and its answer are RFC 6455's, §1.3.
func TestSwitching(t *testing.T) {
	t.Parallel()
	const want = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	for subprotocol, line := range map[string]string{"": "", "roomcast.v1.json": "Sec-WebSocket-Protocol: roomcast.v1.json\r\n"} {
		if diff := cmp.Diff(want+line+"\r\n", string(switching("dGhlIHNhbXBsZSBub25jZQ==", subprotocol))); diff != "" {
			t.Errorf("subprotocol %q, -want +got:\n%s", subprotocol, diff)
		}
	}
}
