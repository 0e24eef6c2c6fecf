package gateway

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// handshakeFault is what is wrong with a request for a WebSocket.
type handshakeFault struct {
	status int
	msg    string
}

// checkHandshake judges a request by RFC 6455 §4.2.1 before anything else is looked
// at: then there is one key.
func checkHandshake(r *http.Request) *handshakeFault {
	keys := r.Header["Sec-Websocket-Key"]
	switch {
	case r.Method != http.MethodGet:
		return &handshakeFault{http.StatusMethodNotAllowed, "the method must be GET"}
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return &handshakeFault{http.StatusBadRequest, "the request must be HTTP/1.1"}
	case r.ContentLength != 0:
		return &handshakeFault{http.StatusBadRequest, "the request must have no body"}
	case !hasToken(r.Header["Connection"], "upgrade") || !hasToken(r.Header["Upgrade"], "websocket"):
		return &handshakeFault{http.StatusUpgradeRequired, "this path serves WebSockets only"}
	case !hasToken(r.Header["Sec-Websocket-Version"], "13"):
		return &handshakeFault{http.StatusUpgradeRequired, "the WebSocket version must be 13"}
	case len(keys) != 1 || !isKey(keys[0]):
		return &handshakeFault{http.StatusBadRequest, "Sec-WebSocket-Key must be there once and hold 16 bytes in base64"}
	}
	return nil
}

func isKey(s string) bool {
	key, err := base64.StdEncoding.DecodeString(s)
	return err == nil && len(key) == 16
}

// hasToken looks for a word in header lines that hold lists, RFC 9110 §5.6.1.
func hasToken(lines []string, word string) bool {
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), word) {
				return true
			}
		}
	}
	return false
}

// offered lists the subprotocols that the client offers.
func offered(r *http.Request) []string {
	var list []string
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				list = append(list, name)
			}
		}
	}
	return list
}
