package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roomcast/roomcast/internal/room"
)

// now is when all tests happen.
func now() time.Time { return time.Unix(1_800_000_000, 0) }

func testKey() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// issuer holds the private halves of a verifier's keys.
type issuer struct {
	hmac []byte
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
	ed   ed25519.PrivateKey

	rsaPEM []byte // the public key file, as an attacker knows it
	config Config
}

// makeRSA makes the one RSA key of all tests, because it takes its time.
var makeRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(rand.Reader, MinRSABits)
})

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	is := &issuer{hmac: testKey()}
	var err error
	if is.rsa, err = makeRSA(); err != nil {
		t.Fatal(err)
	}
	if is.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, is.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	is.rsaPEM = publicPEM(t, is.rsa.Public())
	is.config = Config{
		HMACKeyFiles: []string{write(t, dir, "shared.key", append(testKey(), '\n'))},
		PublicKeyFiles: []string{
			write(t, dir, "rsa.pem", is.rsaPEM),
			write(t, dir, "ec.pem", publicPEM(t, is.ec.Public())),
			write(t, dir, "ed.pem", publicPEM(t, is.ed.Public())),
		},
		Issuer:   "https://issuer.example",
		Audience: "roomcast",
	}
	return is
}

func (is *issuer) verifier(t testing.TB) *Verifier {
	t.Helper()
	return mustVerifier(t, is.config)
}

func mustVerifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	v, err := NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims returns good claims with changes; a nil value removes a claim.
func (is *issuer) claims(changes map[string]any) jwt.MapClaims {
	m := jwt.MapClaims{
		"sub": "ann", "exp": now().Add(time.Hour).Unix(), "jti": "t1",
		"iss": is.config.Issuer, "aud": is.config.Audience,
		"rooms": []string{"orders:*"},
	}
	for name, value := range changes {
		m[name] = value
		if value == nil {
			delete(m, name)
		}
	}
	return m
}

// sign makes an HS256 token of claims, with changes to its header.
func (is *issuer) sign(t testing.TB, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	return signWith(t, jwt.SigningMethodHS256, is.hmac, claims, header)
}

func signWith(t testing.TB, method jwt.SigningMethod, key any, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for name, value := range header {
		token.Header[name] = value
		if value == nil {
			delete(token.Header, name)
		}
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func publicPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// reasonOf returns the reason of an error that must be Unauthenticated; "" for nil.
func reasonOf(t testing.TB, err error) room.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*room.Error](err)
	if !ok || e.Kind != room.Unauthenticated {
		t.Fatalf("got error %#v, want a *room.Error of kind Unauthenticated", err)
	}
	return e.Reason
}
