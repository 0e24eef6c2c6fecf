package client

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSubscribeOverTLS(t *testing.T) {
	t.Parallel()
	server := &socketServer{t: t, accepted: make(chan *socketConn, 1)}
	https := httptest.NewUnstartedServer(server)
	https.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the handshake that fails on purpose
	https.StartTLS()
	t.Cleanup(https.Close)
	server.url = "wss" + strings.TrimPrefix(https.URL, "https")

	stranger := server.subscribe(Config{Token: "t", TLS: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}})
	if lost := nextState(t, stranger, Disconnected); !strings.Contains(lost.Err.Error(), "certificate") {
		t.Errorf("got %v, want the certificate refused", lost.Err)
	}
	if got := server.seenTokens(); len(got) > 0 {
		t.Errorf("got the tokens %q sent to a server that was not verified", got)
	}

	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	sub := server.subscribe(Config{Token: "t", TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	server.welcome()
	nextState(t, sub, Connected)
}
