package gateway

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample is a request with the key of RFC 6455, §1.3.
func sample() *http.Request {
	return &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}}
}

// The key's answer is RFC 6455's, §1.3.
func TestSwitching(t *testing.T) {
	t.Parallel()
	const want = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	for subprotocol, line := range map[string]string{"": "", "roomcast.v1.json": "Sec-WebSocket-Protocol: roomcast.v1.json\r\n"} {
		got, err := switching(sample(), subprotocol)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want+line+"\r\n", string(got)); diff != "" {
			t.Errorf("subprotocol %q, -want +got:\n%s", subprotocol, diff)
		}
	}
}

// BenchmarkSwitching is what an answer to a handshake costs.
func BenchmarkSwitching(b *testing.B) {
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := switching(r, "roomcast.v1.json"); err != nil {
			b.Fatal(err)
		}
	}
}
