package auth

import (
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// TestRevoked: a token is refused whether it is remembered or comes for the first time.
func TestRevoked(t *testing.T) {
	t.Parallel()
	const iat = 1_799_999_000
	user := func(before int64) room.Revocation { return room.Revocation{User: "ann", Before: before} }
	id := func(before int64) room.Revocation { return room.Revocation{TokenID: "t1", Before: before} }
	tests := map[string]struct {
		claims  map[string]any // besides sub ann
		revoked []room.Revocation
		refused bool
	}{
		"nobody":                      {map[string]any{"iat": iat}, nil, false},
		"user, issued before":         {map[string]any{"iat": iat}, []room.Revocation{user(iat + 1)}, true},
		"user, issued in that second": {map[string]any{"iat": iat}, []room.Revocation{user(iat)}, false},
		"user, issued after":          {map[string]any{"iat": iat}, []room.Revocation{user(iat - 1)}, false},
		"user, no iat":                {nil, []room.Revocation{user(1)}, true},
		"another user, no iat":        {nil, []room.Revocation{{User: "bob", Before: iat}}, false},
		"a user of the id's name":     {map[string]any{"jti": "t1"}, []room.Revocation{{User: "t1", Before: iat}}, false},
		"an id of the user's name":    {map[string]any{"jti": "t1"}, []room.Revocation{{TokenID: "ann", Before: iat}}, false},
		"id":                          {map[string]any{"jti": "t1", "iat": iat}, []room.Revocation{id(room.AnyTime)}, true},
		"id, issued before":           {map[string]any{"jti": "t1", "iat": iat}, []room.Revocation{id(iat + 1)}, true},
		"id, issued after":            {map[string]any{"jti": "t1", "iat": iat}, []room.Revocation{id(iat)}, false},
		"another id":                  {map[string]any{"jti": "t2"}, []room.Revocation{id(room.AnyTime)}, false},
		"no id":                       {map[string]any{"jti": nil}, []room.Revocation{id(room.AnyTime)}, false},
		"the weaker one last":         {map[string]any{"iat": iat}, []room.Revocation{user(iat + 1), user(iat - 1)}, true},
		"the weaker one first":        {map[string]any{"iat": iat}, []room.Revocation{user(iat - 1), user(iat + 1)}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t)
			claims := map[string]any{"sub": "ann"}
			maps.Copy(claims, test.claims)
			token := is.sign(t, is.claims(claims), nil)
			v, fresh := is.verifier(t), is.verifier(t)
			caller, err := v.Verify(token, now())
			if err != nil {
				t.Fatal(err)
			}
			for i := range test.revoked {
				test.revoked[i].Until = now().Add(MaxLifetime)
			}
			for name, v := range map[string]*Verifier{"remembered": v, "fresh": fresh} {
				v.Revoke(test.revoked, now())
				for range 2 { // the second time it could be remembered
					_, err := v.Verify(token, now())
					if got := err != nil; got != test.refused || got && reasonOf(t, err) != room.ReasonTokenRevoked {
						t.Errorf("%s: got %v, want refused: %t", name, err, test.refused)
					}
				}
				if got := v.Revoked(caller); got != test.refused {
					t.Errorf("%s: the caller counts as revoked: %t, want %t", name, got, test.refused)
				}
			}
		})
	}
}

// TestRevokedIsNobodyWithoutToken: guests and anonymous callers have no token.
func TestRevokedIsNobodyWithoutToken(t *testing.T) {
	t.Parallel()
	v := newIssuer(t).verifier(t)
	v.Revoke([]room.Revocation{{User: GuestUser, Before: room.AnyTime, Until: now().Add(time.Hour)}}, now())
	if v.Revoked(Guest()) || v.Revoked(Everything()) {
		t.Error("who came without a token counts as revoked")
	}
}

// TestRevokeForgets: of what is remembered only what is revoked goes, and its bytes.
func TestRevokeForgets(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	for _, user := range []string{"ann", "bob"} {
		if _, err := v.Verify(is.sign(t, is.claims(map[string]any{"sub": user}), nil), now()); err != nil {
			t.Fatal(err)
		}
	}
	v.Revoke([]room.Revocation{{User: "ann", Before: room.AnyTime, Until: now().Add(time.Hour)}}, now())
	bytes := 0
	for token, verdict := range v.good.young {
		bytes += len(token)
		if verdict.caller.User != "bob" {
			t.Errorf("%s is still remembered", verdict.caller.User)
		}
	}
	if len(v.good.young) != 1 || v.good.bytes != bytes {
		t.Errorf("%d tokens of %d bytes are counted, want 1 of %d", len(v.good.young), v.good.bytes, bytes)
	}
}

// TestRevokeWhileVerifying: once Revoke has returned nobody gets in, whoever was being
// looked at meanwhile.
func TestRevokeWhileVerifying(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	for i := range 200 {
		v := is.verifier(t)
		user := strconv.Itoa(i)
		token := is.sign(t, is.claims(map[string]any{"sub": user}), nil)
		var verifying sync.WaitGroup
		begun := make(chan struct{}, 1)
		verifying.Go(func() {
			for err := error(nil); err == nil; {
				_, err = v.Verify(token, now())
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
		if i%2 == 0 {
			<-begun // else the first Verify is under way
		}
		v.Revoke([]room.Revocation{{User: user, Before: room.AnyTime, Until: now().Add(time.Hour)}}, now())
		if _, err := v.Verify(token, now()); err == nil {
			t.Fatal("a revoked token passed")
		}
		verifying.Wait()
		if n := len(v.good.young); n != 0 {
			t.Fatalf("%d revoked tokens are remembered", n)
		}
	}
}

// TestRevokedAreDropped: what has run out is neither taken in nor kept for ever.
func TestRevokedAreDropped(t *testing.T) {
	t.Parallel()
	r := newRevoked()
	for i := range 10 * minSweep {
		at := now().Add(time.Duration(i) * time.Second)
		r.add([]room.Revocation{
			{TokenID: strconv.Itoa(i), Before: room.AnyTime, Until: at.Add(time.Minute)},
			{User: strconv.Itoa(i), Before: room.AnyTime, Until: at},
		}, at)
		if n := len(r.users) + len(r.tokens); n > minSweep {
			t.Fatalf("after %d revocations %d are kept; of each second lives for a minute", i, n)
		}
	}
	if len(r.users) != 0 {
		t.Errorf("%d are kept that had run out when they came", len(r.users))
	}
	if last := strconv.Itoa(10*minSweep - 1); !r.has(&Caller{TokenID: last, Expires: now()}) {
		t.Error("the newest is not kept")
	}
}
