package auth

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roomcast/roomcast/internal/room"
)

// Claims is what a minted token says.
type Claims struct {
	User     string              // sub; required
	Rooms    map[string][]string // pattern to rights; empty = no room but the user's own
	RPC      []string            // groups of gRPC methods; empty = none
	Issuer   string              // iss; empty = left out
	Audience string              // aud; empty = left out
	ID       string              // jti; empty = left out
	IssuedAt time.Time           // iat; zero = left out
	Expires  time.Time           // exp; required
}

// Mint makes a token, signed with HS256. The same claims give the same token. It
// refuses what [Verifier.Verify] would refuse; errors are *[room.Error] of kind
// Invalid that name the field.
func Mint(key []byte, c Claims) (string, error) {
	if err := checkHMACKey(key); err != nil {
		return "", room.Invalidf(room.ReasonTokenInvalid, "key", "is too short: %v", err)
	}
	if err := c.check(); err != nil {
		return "", err
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c.encode()).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	if len(token) > MaxToken {
		return "", room.Invalidf(room.ReasonTokenInvalid, "rooms",
			"make a token of %d bytes; the limit is %d", len(token), MaxToken)
	}
	return token, nil
}

func (c *Claims) check() error {
	if err := checkUser(c.User); err != nil {
		e := *room.AsError(err)
		e.Field = "user"
		return &e
	}
	if err := room.CheckUser(c.ID, "id"); err != nil {
		return err
	}
	bad := func(field, format string, args ...any) error {
		return room.Invalidf(room.ReasonTokenInvalid, field, format, args...)
	}
	switch {
	case c.Expires.IsZero():
		return bad("expires", "is missing")
	case !c.IssuedAt.IsZero() && c.Expires.Sub(c.IssuedAt) > MaxLifetime:
		return bad("expires", "is %s after the token's making; the limit is %s",
			c.Expires.Sub(c.IssuedAt), MaxLifetime)
	case len(c.Rooms) > MaxPatterns:
		return bad("rooms", "has %d patterns; the limit is %d", len(c.Rooms), MaxPatterns)
	}
	var g grants
	for _, pattern := range slices.Sorted(maps.Keys(c.Rooms)) {
		granted, err := parseRights(c.Rooms[pattern])
		if err != nil {
			return bad("rooms", "has, for %s, an %v", quote(pattern), err)
		}
		if err := g.add(pattern, granted); err != nil {
			return bad("rooms", "has %s: %v", quote(pattern), err)
		}
	}
	if _, err := parseRPC(c.RPC); err != nil {
		return bad("rpc", "is wrong: %v", err)
	}
	return nil
}

func (c *Claims) encode() jwt.MapClaims {
	m := jwt.MapClaims{"sub": c.User, "exp": c.Expires.Unix()}
	for name, value := range map[string]string{"iss": c.Issuer, "aud": c.Audience, "jti": c.ID} {
		if value != "" {
			m[name] = value
		}
	}
	if !c.IssuedAt.IsZero() {
		m["iat"] = c.IssuedAt.Unix()
	}
	if len(c.Rooms) > 0 {
		m["rooms"] = c.Rooms
	}
	if len(c.RPC) > 0 {
		m["rpc"] = c.RPC
	}
	return m
}
