package gateway

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 asks for it
	"encoding/base64"
)

// switching returns the answer to a handshake that was judged good, RFC 6455 §4.2.2. It
// goes out with the first frames. An empty subprotocol is none.
func switching(key, subprotocol string) []byte {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	if subprotocol != "" {
		subprotocol = "\r\nSec-WebSocket-Protocol: " + subprotocol
	}
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + subprotocol + "\r\n\r\n")
}
