package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes certificates and writes them where programs read them.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // the CA's certificate
}

// newAuthority makes a CA of the test's own.
func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key, a.file, _ = a.issue("ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// server makes a certificate for 127.0.0.1 and returns its files.
func (a *authority) server() (cert, key string) {
	_, _, cert, key = a.issue("server", &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return cert, key
}

// client makes a certificate for a caller and returns its files.
func (a *authority) client() (cert, key string) {
	_, _, cert, key = a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return cert, key
}

func (a *authority) issue(name string, template *x509.Certificate) (_ *x509.Certificate, _ *ecdsa.PrivateKey, certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.Subject = pkix.Name{CommonName: name}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", raw)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// TestTLSAndTokens runs a node as in production: TLS on both listeners, tokens, a
// public address.
func TestTLSAndTokens(t *testing.T) {
	t.Parallel()
	ca, key := newAuthority(t), write(t, "key", "0123456789abcdef0123456789abcdef")
	cert, certKey := ca.server()
	s := serve(t, "--tls-cert", cert, "--tls-key", certKey, "--token-hmac-key-file", key, "--data-dir", t.TempDir())
	token := must(t, "token", "mint", "--key-file", key, "--user", "ann", "--rooms", "orders:*",
		"--rights", "subscribe,publish", "--rpc", "publish")
	url := "https://" + s.HTTP

	sub := start(t, "sub", "--url", url, "--ca", ca.file, "--token", token, "--count", "1", "orders:1")
	sub.says("subscribed to orders:1")
	if got := sub.errors(); !strings.Contains(got, " as ann") {
		t.Errorf("sub says %q, want its user ann", got)
	}
	must(t, "pub", "--grpc-addr", s.GRPC, "--ca", ca.file, "--token", token, "orders:1", `{"paid":true}`)
	checkOutput(t, sub, []byte("{\"paid\":true}\n"))

	refusedCommands := map[string]struct {
		args []string
		want string
	}{
		"sub, forged token":      {[]string{"sub", "--url", url, "--ca", ca.file, "--token", forged(token), "orders:1"}, "TOKEN_INVALID"},
		"sub, another room":      {[]string{"sub", "--url", url, "--ca", ca.file, "--token", token, "users:1"}, "FORBIDDEN"},
		"sub, no token for 10 s": {[]string{"sub", "--url", url, "--ca", ca.file, "orders:1"}, "4408: AUTH_TIMEOUT"},
		"pub, no token":          {[]string{"pub", "--grpc-addr", s.GRPC, "--ca", ca.file, "orders:1", "x"}, "TOKEN_MISSING"},
		"pub, forged token":      {[]string{"pub", "--grpc-addr", s.GRPC, "--ca", ca.file, "--token", forged(token), "orders:1", "x"}, "TOKEN_INVALID"},
		"pub, another room":      {[]string{"pub", "--grpc-addr", s.GRPC, "--ca", ca.file, "--token", token, "users:1", "x"}, "FORBIDDEN"},
		"pub, unknown authority": {[]string{"pub", "--grpc-addr", s.GRPC, "--tls", "--token", token, "orders:1", "x"}, "certificate signed by unknown authority"},
	}
	running := make(map[string]*process) // all at once: some take seconds to give up
	for name, c := range refusedCommands {
		running[name] = start(t, c.args...)
	}
	start(t, "sub", "--url", url, "--token", token, "orders:1").says("certificate signed by unknown authority") // it goes on trying
	for name, p := range running {
		want := refusedCommands[name].want
		if code := p.wait(patience); code != 1 || !strings.Contains(p.errors(), want) {
			t.Errorf("%s: exit code %d, %q; want 1 and %s", name, code, p.errors(), want)
		}
	}
}

// forged is the token with another signature.
func forged(token string) string {
	return token[:strings.LastIndex(token, ".")+1] + strings.Repeat("A", 43)
}

// TestMutualTLS has a control listener that asks for certificates, and callers with
// one, with another authority's, and without.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca, strangers := newAuthority(t), newAuthority(t)
	cert, certKey := ca.server()
	mine, mineKey := ca.client()
	theirs, theirsKey := strangers.client()
	s := serve(t, "--tls-cert", cert, "--tls-key", certKey, "--grpc-client-ca", ca.file, "--reflection",
		"--token-hmac-key-file", write(t, "key", "0123456789abcdef0123456789abcdef"), "--data-dir", t.TempDir())
	call := []string{"-cacert", ca.file, "-max-time", "100", "-d", `{"room":"hello","text":"x"}`}
	target := []string{s.GRPC, publishMethod}
	tests := map[string]struct {
		args []string
		ok   bool
	}{
		"ours":   {[]string{"-cert", mine, "-key", mineKey}, true},
		"theirs": {[]string{"-cert", theirs, "-key", theirsKey}, false},
		"none":   {nil, false},
	}
	pub := start(t, "pub", "--grpc-addr", s.GRPC, "--ca", ca.file, "--cert", mine, "--key", mineKey, "hello", "from pub")
	if code := pub.wait(patience); code != 0 {
		t.Errorf("pub: exit code %d, %s", code, pub.errors())
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := grpcurl(t, append(append(append([]string{}, call...), test.args...), target...)...)
			if (code == 0) != test.ok {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}
