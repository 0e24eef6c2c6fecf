package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestNewVerifierRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	smallRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	good := publicPEM(t, ed.Public())
	shared := func(name string, data string) Config {
		return Config{HMACKeyFiles: []string{write(t, dir, name, []byte(data))}}
	}
	public := func(name string, data []byte) Config {
		return Config{PublicKeyFiles: []string{write(t, dir, name, data)}}
	}
	tests := map[string]struct {
		config Config
		want   []string // in the error's text
	}{
		"hmac too short":     {shared("short.key", strings.Repeat("k", 31)+"\n"), []string{"short.key", "31 bytes", "32"}},
		"hmac two newlines":  {shared("lines.key", strings.Repeat("k", 30)+"\n\n"), []string{"lines.key", "31 bytes"}},
		"hmac CRLF":          {shared("crlf.key", strings.Repeat("k", 31)+"\r\n"), []string{"crlf.key", "31 bytes"}},
		"hmac empty":         {shared("empty.key", ""), []string{"empty.key", "0 bytes"}},
		"hmac is a PEM":      {shared("pem.key", string(good)), []string{"pem.key", "raw secret"}},
		"hmac missing":       {Config{HMACKeyFiles: []string{filepath.Join(dir, "none.key")}}, []string{"none.key", "no such file"}},
		"hmac is a folder":   {Config{HMACKeyFiles: []string{dir}}, []string{filepath.Base(dir)}},
		"hmac too large":     {shared("large.key", strings.Repeat("k", maxKeyBytes+1)), []string{"large.key", "65536"}},
		"public not PEM":     {public("text.pem", []byte("hello")), []string{"text.pem", "no PEM block"}},
		"public missing":     {Config{PublicKeyFiles: []string{filepath.Join(dir, "none.pem")}}, []string{"none.pem"}},
		"public two":         {public("two.pem", append(append([]byte{}, good...), good...)), []string{"two.pem", "more than one"}},
		"public is private":  {public("private.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), []string{"private.pem", "private key"}},
		"public other block": {public("other.pem", pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: []byte{1}})), []string{"other.pem", "DH PARAMETERS"}},
		"public broken":      {public("broken.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}})), []string{"broken.pem"}},
		"certificate broken": {public("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), []string{"cert.pem"}},
		"RSA too small":      {public("small.pem", publicPEM(t, smallRSA.Public())), []string{"small.pem", "1024", "2048"}},
		"EC P-384":           {public("p384.pem", publicPEM(t, p384.Public())), []string{"p384.pem", "P-384", "P-256"}},
		"too many":           {Config{PublicKeyFiles: make([]string, MaxKeys+1)}, []string{"17", "16"}},
		"dev key too short":  {Config{DevKey: []byte("dev")}, []string{"development key", "3 bytes"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewVerifier(tc.config)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "kkkk") {
				t.Errorf("the error holds the key: %q", err)
			}
		})
	}
}

// TestHMACKeyNewline: the usual `openssl rand … > file` ends with a newline.
func TestHMACKeyNewline(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("k", 32)
	for name, data := range map[string]string{"none": key, "LF": key + "\n", "CRLF": key + "\r\n"} {
		got, err := loadHMACKey(write(t, t.TempDir(), "a.key", []byte(data)))
		if err != nil || string(got) != key {
			t.Errorf("%s: got %q, %v; want the key without newline", name, got, err)
		}
	}
}

func TestCertificateAsKey(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, is.ec.Public(), is.ec)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, t.TempDir(), "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	v := mustVerifier(t, Config{PublicKeyFiles: []string{path}})
	if _, err := v.Verify(signWith(t, jwt.SigningMethodES256, is.ec, is.claims(nil), nil), now()); err != nil {
		t.Errorf("got %v, want it accepted: only the key of a certificate counts", err)
	}
}

// TestDevKey: the development key does not change with the caller's slice.
func TestDevKey(t *testing.T) {
	t.Parallel()
	key := []byte(strings.Repeat("d", 32))
	v := mustVerifier(t, Config{DevKey: key})
	token, err := Mint(key, Claims{User: "dev", Expires: now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	clear(key)
	if _, err := v.Verify(token, now()); err != nil {
		t.Errorf("got %v, want it accepted", err)
	}
}
