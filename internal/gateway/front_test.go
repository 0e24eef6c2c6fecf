package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestBareLineFeeds: a request whose lines end as only the HTTP server takes them is
// served, and nothing of what follows it is taken for a part of it.
func TestBareLineFeeds(t *testing.T) {
	t.Parallel()
	ping := "\x89\x85    a\r\n\r\n" // masked by spaces
	e := newEdge(t, false, nil)
	for name, early := range map[string]string{"alone": "", "with an early frame": ping} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := e.ask(t, e.dial(t), strings.ReplaceAll(request(), "\r\n", "\n")+early)
			if a.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("status %d: %s", a.StatusCode, a.body)
			}
			if early == "" {
				return
			}
			pong := make([]byte, 7)
			if _, err := io.ReadFull(a.buf, pong); err != nil || string(pong) != "\x8A\x05A-*-*" {
				t.Errorf("got %q, %v, want the pong", pong, err)
			}
		})
	}
}
