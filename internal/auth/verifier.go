package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roomcast/roomcast/internal/room"
)

// MaxToken is the length of a token, in bytes.
const MaxToken = 8 << 10

var errExpired = errors.New("exp has passed")

// Verifier checks tokens. It is safe for concurrent use. Its keys never change; it
// remembers tokens that it found good, and those that were revoked.
type Verifier struct {
	keys     *keySet
	parser   *jwt.Parser
	issuer   string
	audience string
	good     remembered
	revoked  revoked
}

// NewVerifier reads the keys of the configuration once. Without any key it refuses
// every token. Errors name the file, and the limit that it breaks.
func NewVerifier(c Config) (*Verifier, error) {
	keys, err := loadKeys(c)
	if err != nil {
		return nil, err
	}
	return &Verifier{
		keys: keys,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{algHS256, algRS256, algES256, algEdDSA}),
			jwt.WithStrictDecoding(),
			jwt.WithoutClaimsValidation(), // readClaims and judge are stricter
		),
		issuer:   c.Issuer,
		audience: c.Audience,
		revoked:  newRevoked(),
	}, nil
}

// Verify returns the caller of a token that is good at this moment. Errors are
// *[room.Error] of kind Unauthenticated with the reason TOKEN_MISSING (empty),
// TOKEN_EXPIRED, TOKEN_REVOKED (good in all else) or TOKEN_INVALID. Their text is constant; the
// cause, for logs, names what was wrong but never holds the token.
func (v *Verifier) Verify(token string, now time.Time) (*Caller, error) {
	if token == "" {
		return nil, room.Errorf(room.Unauthenticated, room.ReasonTokenMissing, "no token was sent")
	}
	if caller := v.good.find(token, now); caller != nil {
		return caller, nil
	}
	return v.examine(token, now)
}

// examine looks at a token that is not remembered, or no longer good.
func (v *Verifier) examine(token string, now time.Time) (*Caller, error) {
	if err := checkShape(token); err != nil {
		return nil, invalid(err)
	}
	parsed, err := v.parser.Parse(token, v.findKeys)
	if err != nil {
		return nil, invalid(err)
	}
	raw, ok := parsed.Claims.(jwt.MapClaims)
	if !ok {
		return nil, invalid(errors.New("claims are no object"))
	}
	c, problems := readClaims(raw)
	if len(problems) == 0 {
		problems = append(v.addressed(c), c.judge(now)...)
	}
	if len(problems) == 1 && errors.Is(problems[0], errExpired) {
		return nil, &room.Error{
			Kind: room.Unauthenticated, Reason: room.ReasonTokenExpired,
			Msg: "the token has expired", Err: errExpired,
		}
	}
	if len(problems) > 0 {
		return nil, invalid(join(problems))
	}
	caller := &Caller{User: c.user, TokenID: c.tokenID, IssuedAt: c.issuedAt, Expires: c.expires, grants: c.grants}
	good := &verdict{
		token:  strings.Clone(token),
		claims: claims{notBefore: c.notBefore, expires: c.expires},
		caller: caller,
	}
	if !v.good.keep(good, v.revoked.has) {
		return nil, room.Errorf(room.Unauthenticated, room.ReasonTokenRevoked, "the token was revoked")
	}
	return caller, nil
}

// findKeys gives the parser the keys of the header's algorithm.
func (v *Verifier) findKeys(token *jwt.Token) (any, error) {
	if problems := checkHeader(token.Header); len(problems) > 0 {
		return nil, join(problems)
	}
	kid, _ := token.Header["kid"].(string)
	return jwt.VerificationKeySet{Keys: v.keys.find(token.Method.Alg(), kid)}, nil
}

// addressed checks that the token was made by whom and for whom we expect.
func (v *Verifier) addressed(c *claims) []error {
	var problems []error
	if v.issuer != "" && c.issuer != v.issuer {
		problems = append(problems, errors.New("iss is not the configured one"))
	}
	if v.audience != "" && !slices.Contains(c.audience, v.audience) {
		problems = append(problems, errors.New("aud does not contain the configured one"))
	}
	return problems
}

// checkShape checks a token's bytes before anything is decoded. The alphabet is
// checked because Go's base64 decoder skips line breaks: another text would be the
// same token.
func checkShape(token string) error {
	if len(token) > MaxToken {
		return fmt.Errorf("token has %d bytes; the limit is %d", len(token), MaxToken)
	}
	for i := range len(token) {
		if !tokenByte(token[i]) {
			return fmt.Errorf("token has an illegal character at byte %d", i)
		}
	}
	if dots := strings.Count(token, "."); dots != 2 {
		return fmt.Errorf("token has %d parts; a JWT has 3", dots+1)
	}
	return nil
}

func tokenByte(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	}
	return b == '-' || b == '_' || b == '.'
}

// checkHeader checks the header as far as that needs no key. Of jwk, jku, x5c and
// x5u it takes no notice: nobody reads them.
func checkHeader(header map[string]any) []error {
	var problems []error
	switch header["alg"] {
	case algHS256, algRS256, algES256, algEdDSA:
	default:
		problems = append(problems, errors.New("alg is none of HS256, RS256, ES256, EdDSA"))
	}
	if _, has := header["crit"]; has {
		// RFC 7515 §4.1.11: who does not understand an extension must refuse it.
		problems = append(problems, errors.New("crit names extensions, and none is understood"))
	}
	if kid, has := header["kid"]; has {
		if _, ok := kid.(string); !ok {
			problems = append(problems, errors.New("kid is not a string"))
		}
	}
	if typ, has := header["typ"]; has && !accessType(typ) {
		// RFC 8725 §3.11: a token made for another purpose by the same issuer.
		problems = append(problems, errors.New("typ is not JWT or at+jwt"))
	}
	return problems
}

func accessType(typ any) bool {
	word, _ := typ.(string)
	word = strings.TrimPrefix(strings.ToLower(word), "application/")
	return word == "jwt" || word == "at+jwt"
}

// join puts problems on one line, for logs.
func join(problems []error) error {
	texts := make([]string, 0, len(problems))
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	return errors.New(strings.Join(texts, "; "))
}

// invalid hides why from the caller. The cause is cut because a decoder's message
// can quote what the token holds.
func invalid(cause error) error {
	return &room.Error{
		Kind: room.Unauthenticated, Reason: room.ReasonTokenInvalid,
		Msg: "the token is not valid", Err: fmt.Errorf("%.300s", cause.Error()),
	}
}
