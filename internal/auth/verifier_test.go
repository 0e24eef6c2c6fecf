package auth

import (
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roomcast/roomcast/internal/room"
)

func TestVerifyAlgorithms(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	claims := is.claims(map[string]any{
		"iat":   now().Add(-time.Minute).Unix(),
		"rooms": map[string]any{"orders:*": []string{"presence"}},
		"rpc":   []string{"history"},
	})
	tests := map[string]struct {
		method jwt.SigningMethod
		key    any
	}{
		"HS256": {jwt.SigningMethodHS256, is.hmac},
		"RS256": {jwt.SigningMethodRS256, is.rsa},
		"ES256": {jwt.SigningMethodES256, is.ec},
		"EdDSA": {jwt.SigningMethodEdDSA, is.ed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := v.Verify(signWith(t, tc.method, tc.key, claims, nil), now())
			if err != nil {
				t.Fatal(err)
			}
			if c.User != "ann" || c.TokenID != "t1" {
				t.Errorf("got user %q, token %q; want ann, t1", c.User, c.TokenID)
			}
			if want := now().Add(time.Hour); !c.Expires.Equal(want) {
				t.Errorf("got expiry %s, want %s", c.Expires, want)
			}
			if want := now().Add(-time.Minute); !c.IssuedAt.Equal(want) {
				t.Errorf("got issued %s, want %s", c.IssuedAt, want)
			}
			if !c.MayPresence("orders:1") || c.MaySubscribe("orders:1") || !c.MayCall(RPCHistory) {
				t.Errorf("the grants of the claims are wrong: %+v", c.grants)
			}
		})
	}
}

// TestVerifyRotation: old and new keys serve side by side, and a kid picks one.
func TestVerifyRotation(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	old, next := []byte("old-old-old-old-old-old-old-old-old"), []byte("new-new-new-new-new-new-new-new-new")
	dir := t.TempDir()
	v := mustVerifier(t, Config{HMACKeyFiles: []string{write(t, dir, "2025.key", old), write(t, dir, "2026.key", next)}})
	tests := map[string]struct {
		key  []byte
		kid  any
		want room.Reason
	}{
		"old, no kid":         {old, nil, accepted},
		"new, no kid":         {next, nil, accepted},
		"old, its kid":        {old, "2025", accepted},
		"old, the other kid":  {old, "2026", refused},
		"new, unknown kid":    {next, "2027", accepted},
		"other, no kid":       {[]byte("other"), nil, refused},
		"kid with extension":  {next, "2026.key", accepted}, // names no key: all are tried
		"other, existing kid": {[]byte("other"), "2026", refused},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := signWith(t, jwt.SigningMethodHS256, tc.key, is.claims(nil), map[string]any{"kid": tc.kid})
			_, err := v.Verify(token, now())
			if got := reasonOf(t, err); got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

func TestVerifyWithoutIssuerAndAudience(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	is.config.Issuer, is.config.Audience = "", ""
	v := is.verifier(t)
	for name, value := range map[string]any{"iss": "any", "aud": []string{"any"}} {
		if _, err := v.Verify(is.sign(t, is.claims(map[string]any{name: value}), nil), now()); err != nil {
			t.Errorf("%s: got %v, want it accepted", name, err)
		}
	}
}

func TestVerifyWithoutKeys(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	if !(&Config{Issuer: "x"}).Empty() || is.config.Empty() || (&Config{DevKey: is.hmac}).Empty() {
		t.Error("Empty is wrong")
	}
	if _, err := mustVerifier(t, Config{}).Verify(is.sign(t, is.claims(nil), nil), now()); reasonOf(t, err) != refused {
		t.Errorf("got %v, want %s", err, refused)
	}
}

func TestVerifyConcurrently(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	token := is.sign(t, is.claims(nil), nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := v.Verify(token, now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkVerify(b *testing.B) {
	is := newIssuer(b)
	v := is.verifier(b)
	for name, token := range map[string]string{
		"HS256": is.sign(b, is.claims(nil), nil),
		"ES256": signWith(b, jwt.SigningMethodES256, is.ec, is.claims(nil), nil),
	} {
		b.Run("alg="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.examine(token, now()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("remembered="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(token, now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
