package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/room"
)

func TestMint(t *testing.T) {
	t.Parallel()
	claims := Claims{
		User:   "ann",
		Rooms:  map[string][]string{"orders:*": {RightSubscribe, RightPresence}, "chat:7": {RightPublish}},
		RPC:    []string{RPCPublish},
		Issuer: "me", Audience: "roomcast", ID: "t1",
		IssuedAt: now(), Expires: now().Add(time.Hour),
	}
	token, err := Mint(testKey(), claims)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Mint(testKey(), claims)
	if err != nil || again != token {
		t.Errorf("got another token of the same claims (%v)", err)
	}
	c, err := mustVerifier(t, Config{DevKey: testKey(), Issuer: "me", Audience: "roomcast"}).Verify(token, now())
	if err != nil {
		t.Fatal(err)
	}
	if c.User != "ann" || c.TokenID != "t1" || !c.IssuedAt.Equal(now()) || !c.Expires.Equal(now().Add(time.Hour)) {
		t.Errorf("got %+v", c)
	}
	if letters(c, "orders:1") != "sp" || letters(c, "chat:7") != "w" || !c.MayCallRoom(RPCPublish, "chat:7") {
		t.Errorf("got grants %+v", c.grants)
	}
}

func TestMintRefuses(t *testing.T) {
	t.Parallel()
	many := make(map[string][]string)
	for i := range MaxPatterns {
		many[fmt.Sprintf("a-room-with-a-name:%d", i)] = []string{RightSubscribe}
	}
	tests := map[string]struct {
		change func(*Claims)
		field  string
	}{
		"no user":        {func(c *Claims) { c.User = "" }, "user"},
		"long user":      {func(c *Claims) { c.User = strings.Repeat("u", 129) }, "user"},
		"broken user":    {func(c *Claims) { c.User = "\xff" }, "user"},
		"no expiry":      {func(c *Claims) { c.Expires = time.Time{} }, "expires"},
		"lifetime":       {func(c *Claims) { c.IssuedAt, c.Expires = now(), now().Add(MaxLifetime+1) }, "expires"},
		"long id":        {func(c *Claims) { c.ID = strings.Repeat("i", 129) }, "id"},
		"pattern":        {func(c *Claims) { c.Rooms = map[string][]string{"a*b": {RightSubscribe}} }, "rooms"},
		"right":          {func(c *Claims) { c.Rooms = map[string][]string{"a": {"all"}} }, "rooms"},
		"rpc":            {func(c *Claims) { c.RPC = []string{"all"} }, "rpc"},
		"token too long": {func(c *Claims) { c.Rooms = many }, "rooms"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claims := Claims{User: "ann", Expires: now().Add(time.Hour)}
			tc.change(&claims)
			_, err := Mint(testKey(), claims)
			e, ok := errors.AsType[*room.Error](err)
			if !ok || e.Kind != room.Invalid || e.Field != tc.field {
				t.Fatalf("got %#v, want an invalid %s", err, tc.field)
			}
		})
	}
	if _, err := Mint([]byte("short"), Claims{User: "ann", Expires: now()}); err == nil {
		t.Error("got a token of a short key")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	good, err := Mint(testKey(), Claims{
		User:  "ann",
		Rooms: map[string][]string{"orders:*": {RightSubscribe, RightPresence}},
		RPC:   []string{RPCPublish, RPCHistory}, Expires: now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		token string
		want  []string
	}{
		"good":                    {good, nil},
		"unknown":                 {"hello", []string{"token has 1 parts; a JWT has 3"}},
		"not base64 and not JSON": {"e30A.!!.", []string{"token has an illegal character at byte 5"}},
		"not JSON": {"QQ.QQ.Q", []string{
			"the header part is not a JSON object: invalid character 'A' looking for beginning of value",
			"the claims part is not a JSON object: invalid character 'A' looking for beginning of value",
			"the signature is not base64url: illegal base64 data at input byte 0",
		}},
		"all wrong": {raw(`{"alg":"none","crit":[],"kid":1,"typ":"x"}`,
			`{"sub":"","nbf":"x","aud":1,"rooms":{"a*b":["x"]},"rpc":["y"]}`, nil), []string{
			"alg is none of HS256, RS256, ES256, EdDSA",
			"crit names extensions, and none is understood",
			"kid is not a string",
			"typ is not JWT or at+jwt",
			"sub is empty",
			"aud is neither a string nor a list of strings",
			"nbf is not a number",
			"exp is missing",
			`rooms: pattern "a*b": unknown right "x"; want subscribe, presence or publish`,
			`rooms: "a*b": pattern contains '*', which only patterns may`,
			`rpc: unknown word "y"; want publish, presence, history, connections or cluster`,
		}},
		"expired": {raw(`{"alg":"RS256"}`, `{"sub":"ann","exp":1}`, nil), []string{"exp has passed"}},
		"future": {raw(`{"alg":"RS256"}`, `{"sub":"ann","exp":1800000001000,"nbf":1800009999}`, nil), []string{
			"exp is out of range; it is in seconds since 1970",
		}},
		"century": {raw(`{"alg":"RS256"}`, `{"sub":"ann","exp":5000000000,"nbf":1800009999}`, nil), []string{
			"exp is more than 400 days ahead", "nbf is in the future",
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, Explain(tc.token, now()).Problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}

	e := Explain(good, now())
	if e.User != "ann" || !e.Expires.Equal(now().Add(time.Hour)) {
		t.Errorf("got user %q, expires %s", e.User, e.Expires)
	}
	want := `header   {
           "alg": "HS256",
           "typ": "JWT"
         }
claims   {
           "exp": 1800003600,
           "rooms": {
             "orders:*": [
               "subscribe",
               "presence"
             ]
           },
           "rpc": [
             "publish",
             "history"
           ],
           "sub": "ann"
         }
user     "ann"
expires  2027-01-15T09:00:00Z
rooms    "orders:*": ["subscribe" "presence"]
rpc      history, publish
`
	if diff := cmp.Diff(want, e.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

// TestExplainIsSafeToPrint: a token from elsewhere must not steer the terminal.
func TestExplainIsSafeToPrint(t *testing.T) {
	t.Parallel()
	token := raw(`{"alg":"x`+"\u009b"+`31m"}`, `{"sub":"`+"\u202e"+`ann","rooms":["`+"\u009b"+`"],"rpc":["`+"\u009b"+`"]}`, nil)
	if got := Explain(token, now()).String(); strings.ContainsAny(got, "\u009b\u202e\x1b") {
		t.Errorf("got %q", got)
	}
}
