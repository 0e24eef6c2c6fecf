package auth

import (
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// fuzzVerifier has keys whose signatures are the same in every fuzzing process.
func fuzzVerifier(f *testing.F) (*Verifier, ed25519.PrivateKey) {
	f.Helper()
	ed := ed25519.NewKeyFromSeed(testKey())
	path := write(f, f.TempDir(), "ed.pem", publicPEM(f, ed.Public()))
	return mustVerifier(f, Config{DevKey: testKey(), PublicKeyFiles: []string{path}}), ed
}

// FuzzVerify: no input panics, and only the very tokens that we minted pass.
func FuzzVerify(f *testing.F) {
	v, ed := fuzzVerifier(f)
	claims := jwt.MapClaims{"sub": "ann", "exp": now().Add(time.Hour).Unix(), "rooms": []string{"a*"}}
	minted := map[string]bool{
		signWith(f, jwt.SigningMethodHS256, testKey(), claims, nil):                              true,
		signWith(f, jwt.SigningMethodHS256, testKey(), claims, map[string]any{"kid": "dev"}):     true,
		signWith(f, jwt.SigningMethodEdDSA, ed, claims, nil):                                     true,
		signWith(f, jwt.SigningMethodEdDSA, ed, claims, map[string]any{"kid": "ed", "jku": "x"}): true,
	}
	for token := range minted {
		f.Add(token)
		f.Add(token + "\n")
		f.Add(malleateBase64(token))
	}
	f.Add(raw(`{"alg":"none"}`, `{"sub":"ann"}`, nil))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		_, err := v.Verify(token, now())
		if (err == nil) != minted[token] {
			t.Errorf("got error %v for a token that was minted: %t", err, minted[token])
		}
		_ = Explain(token, now()).String()
	})
}

// FuzzClaims: whatever an issuer signs, what passes keeps the rules that callers
// rely on, and Explain and Verify agree.
func FuzzClaims(f *testing.F) {
	v, _ := fuzzVerifier(f)
	for _, claims := range []jwt.MapClaims{
		{"sub": "ann", "exp": 1800003600},
		{"sub": "ann", "exp": 1800003600.5, "nbf": 0, "iat": 1, "jti": "t", "iss": "i", "aud": []string{"a"}},
		{"sub": "ann", "exp": 1800003600, "rooms": []string{"*", "a*", "b"}, "rpc": []string{"publish"}},
		{"sub": "ann", "exp": 1800003600, "rooms": map[string]any{"a:*": []string{"subscribe", "publish"}}},
	} {
		data, err := json.Marshal(claims)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, claims string) {
		token := raw(`{"alg":"HS256"}`, claims, testKey())
		c, err := v.Verify(token, now())
		e := Explain(token, now())
		if (err == nil) != (len(e.Problems) == 0) {
			t.Fatalf("Verify says %v, Explain says %q", err, e.Problems)
		}
		if err != nil {
			_ = reasonOf(t, err)
			return
		}
		if c.User == "" || len(c.User) > 128 || !utf8.ValidString(c.User) || len(c.TokenID) > 128 {
			t.Errorf("got user %q, token %q", c.User, c.TokenID)
		}
		if c.Expired(now()) || c.Expires.Sub(now()) > MaxLifetime {
			t.Errorf("got expiry %s", c.Expires)
		}
		if n := len(c.grants.exact) + len(c.grants.prefixes); n > MaxPatterns {
			t.Errorf("got %d patterns", n)
		}
	})
}
