package auth

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/roomcast/roomcast/internal/room"
)

const (
	accepted = room.Reason("")
	missing  = room.ReasonTokenMissing
	refused  = room.ReasonTokenInvalid
	expired  = room.ReasonTokenExpired
)

// raw makes a token of any header and claims text, signed with HS256 over any key.
func raw(header, claims string, key []byte) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// text returns claims as JSON.
func text(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type hostileCase struct {
	token string
	want  room.Reason
}

func runHostile(t *testing.T, v *Verifier, cases map[string]hostileCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller, err := v.Verify(tc.token, now())
			if got := reasonOf(t, err); got != tc.want {
				t.Fatalf("got reason %q (%v), want %q", got, err, tc.want)
			}
			if (err == nil) == (caller == nil) {
				t.Fatalf("got caller %v with error %v", caller, err)
			}
			if err != nil {
				checkSilence(t, err, tc.token)
			}
		})
	}
}

// checkSilence checks that an error tells the caller nothing but its reason, and the
// log nothing that could be used as a token.
func checkSilence(t *testing.T, err error, token string) {
	t.Helper()
	texts := map[room.Reason]string{
		missing: "no token was sent", refused: "the token is not valid", expired: "the token has expired",
	}
	e, _ := errors.AsType[*room.Error](err)
	if want := texts[e.Reason]; e.Msg != want {
		t.Errorf("got text %q, want the constant %q", e.Msg, want)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 16 && strings.Contains(err.Error(), part) {
			t.Errorf("the error holds a part of the token: %v", err)
		}
	}
	if len(err.Error()) > 400 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

// TestHostileHeader holds the rows about algorithms, keys and headers.
func TestHostileHeader(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	claims := is.claims(nil)
	body := text(t, claims)
	attacker := []byte("attacker's key, of 32 bytes and more")
	alg := func(alg string) string { return `{"alg":` + alg + `,"typ":"JWT"}` }
	withoutSignature := func(token string) string { return token[:strings.LastIndex(token, ".")+1] }
	header := func(h map[string]any) string { return is.sign(t, claims, h) }
	forged := func(h map[string]any) string { return signWith(t, jwt.SigningMethodHS256, attacker, claims, h) }
	block, _ := pem.Decode(is.rsaPEM)

	cases := map[string]hostileCase{
		"good":                                 {is.sign(t, claims, nil), accepted},
		"alg none":                             {withoutSignature(raw(alg(`"none"`), body, nil)), refused},
		"alg None":                             {withoutSignature(raw(alg(`"None"`), body, nil)), refused},
		"alg nOnE":                             {withoutSignature(raw(alg(`"nOnE"`), body, nil)), refused},
		"alg none, signed":                     {raw(alg(`"none"`), body, is.hmac), refused},
		"alg empty":                            {raw(alg(`""`), body, is.hmac), refused},
		"alg number":                           {raw(alg(`256`), body, is.hmac), refused},
		"alg null":                             {raw(alg(`null`), body, is.hmac), refused},
		"alg missing":                          {raw(`{"typ":"JWT"}`, body, is.hmac), refused},
		"alg lower case":                       {raw(alg(`"hs256"`), body, is.hmac), refused},
		"alg under another case of name":       {raw(`{"ALG":"HS256"}`, body, is.hmac), refused},
		"alg twice, none last":                 {raw(`{"alg":"HS256","alg":"none"}`, body, is.hmac), refused},
		"alg HS512, our key":                   {signWith(t, jwt.SigningMethodHS512, is.hmac, claims, nil), refused},
		"alg RS512, our key":                   {signWith(t, jwt.SigningMethodRS512, is.rsa, claims, nil), refused},
		"alg PS256, our key":                   {signWith(t, jwt.SigningMethodPS256, is.rsa, claims, nil), refused},
		"alg says RS256, signed with HS256":    {raw(alg(`"RS256"`), body, is.hmac), refused},
		"alg says ES256, signed with HS256":    {raw(alg(`"ES256"`), body, is.hmac), refused},
		"alg says EdDSA, signed with HS256":    {raw(alg(`"EdDSA"`), body, is.hmac), refused},
		"HS256 with the RSA public key file":   {raw(alg(`"HS256"`), body, is.rsaPEM), refused},
		"HS256 with that file, trimmed":        {raw(alg(`"HS256"`), body, []byte(strings.TrimSpace(string(is.rsaPEM)))), refused},
		"HS256 with the RSA public key in DER": {raw(alg(`"HS256"`), body, block.Bytes), refused},
		"HS256 with that file, kid rsa":        {raw(`{"alg":"HS256","kid":"rsa"}`, body, is.rsaPEM), refused},
		"HS256 with an empty key":              {raw(alg(`"HS256"`), body, nil), refused},
		"another's key":                        {forged(nil), refused},
		"jwk with the attacker's key":          {forged(map[string]any{"jwk": map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(attacker)}}), refused},
		"jku":                                  {forged(map[string]any{"jku": "https://evil.example/jwks.json"}), refused},
		"x5u":                                  {forged(map[string]any{"x5u": "https://evil.example/cert.pem"}), refused},
		"x5c":                                  {forged(map[string]any{"x5c": []string{"MIIB"}}), refused},
		"our signature, jku ignored":           {header(map[string]any{"jku": "https://evil.example/jwks.json"}), accepted},
		"kid is a path":                        {forged(map[string]any{"kid": "../../dev/null"}), refused},
		"kid is a path, empty key":             {raw(`{"alg":"HS256","kid":"../../dev/null"}`, body, nil), refused},
		"kid is SQL":                           {forged(map[string]any{"kid": "x' UNION SELECT 'key"}), refused},
		"kid of 1 MiB":                         {forged(map[string]any{"kid": strings.Repeat("k", 1<<20)}), refused},
		"kid unknown, forged":                  {forged(map[string]any{"kid": "unknown"}), refused},
		"kid of our key, forged":               {forged(map[string]any{"kid": "shared"}), refused},
		"kid of our key":                       {header(map[string]any{"kid": "shared"}), accepted},
		"kid unknown, our signature":           {header(map[string]any{"kid": "unknown"}), accepted},
		"kid of a key of another algorithm":    {header(map[string]any{"kid": "rsa"}), accepted},
		"kid number":                           {header(map[string]any{"kid": 7}), refused},
		"kid null":                             {raw(`{"alg":"HS256","kid":null}`, body, is.hmac), refused},
		"typ missing":                          {header(map[string]any{"typ": nil}), accepted},
		"typ lower case":                       {header(map[string]any{"typ": "jwt"}), accepted},
		"typ at+jwt":                           {header(map[string]any{"typ": "application/at+jwt"}), accepted},
		"typ other":                            {header(map[string]any{"typ": "logout+jwt"}), refused},
		"typ number":                           {header(map[string]any{"typ": 1}), refused},
		"crit unknown":                         {header(map[string]any{"crit": []string{"x"}}), refused},
		"crit empty":                           {header(map[string]any{"crit": []string{}}), refused},
		"crit null":                            {raw(`{"alg":"HS256","crit":null}`, body, is.hmac), refused},
		"crit b64":                             {raw(`{"alg":"HS256","b64":false,"crit":["b64"]}`, body, is.hmac), refused},
		"header null":                          {raw(`null`, body, is.hmac), refused},
		"header a list":                        {raw(`["HS256"]`, body, is.hmac), refused},
		"header with trailing data":            {raw(alg(`"HS256"`)+`{}`, body, is.hmac), refused},
		"header of 2,000 levels, not closed":   {raw(`{"alg":"HS256","x":`+strings.Repeat("[", 2000)+`}`, body, is.hmac), refused},
	}
	runHostile(t, is.verifier(t), cases)
}

// TestHostileShape holds the rows about bytes and signatures.
func TestHostileShape(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	claims := is.claims(nil)
	good := is.sign(t, claims, nil)
	parts := strings.Split(good, ".")
	es := signWith(t, jwt.SigningMethodES256, is.ec, claims, nil)

	runHostile(t, is.verifier(t), map[string]hostileCase{
		"missing":                     {"", missing},
		"one space":                   {" ", refused},
		"bearer":                      {"Bearer " + good, refused},
		"no dots":                     {"abc", refused},
		"two dots only":               {"..", refused},
		"detached":                    {parts[0] + ".." + parts[2], refused},
		"without signature":           {parts[0] + "." + parts[1] + ".", refused},
		"two parts":                   {parts[0] + "." + parts[1], refused},
		"four parts":                  {good + ".", refused},
		"five dots of 1 MiB":          {strings.Repeat(strings.Repeat("a", 1<<20)+".", 5), refused},
		"one byte over the limit":     {good + strings.Repeat("A", MaxToken-len(good)+1), refused},
		"8 KiB of dots":               {strings.Repeat(".", MaxToken), refused},
		"line break at the end":       {good + "\n", refused},
		"line break in the signature": {good[:len(good)-5] + "\r\n" + good[len(good)-5:], refused},
		"padding":                     {good + "=", refused},
		"standard base64":             {parts[0] + "." + parts[1] + ".+/" + parts[2][2:], refused},
		"NUL":                         {good + "\x00", refused},
		"not UTF-8":                   {"\xff\xfe." + parts[1] + "." + parts[2], refused},
		"last bits of the signature":  {malleateBase64(good), refused},
		"another's claims":            {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(text(t, is.claims(map[string]any{"sub": "bob"})))) + "." + parts[2], refused},
		"ES256":                       {es, accepted},
		"ES256 of zeros":              {es[:strings.LastIndex(es, ".")+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), refused},
		"ES256 in ASN.1":              {resign(t, es, asASN1), refused},
		"ES256 with leading zeros":    {resign(t, es, func(sig []byte) []byte { return append([]byte{0}, sig...) }), refused},
		"ES256 longer":                {resign(t, es, func(sig []byte) []byte { return append(sig, 0) }), refused},
		// (r, n-s) is as valid as (r, s), and issuers make either: it cannot be refused.
		// It is harmless because the same claims stand in it, and because revocation
		// goes by jti and user, never by a token's bytes.
		"ES256 malleated": {resign(t, es, func(sig []byte) []byte {
			s := new(big.Int).SetBytes(sig[32:])
			s.Sub(is.ec.Params().N, s).FillBytes(sig[32:])
			return sig
		}), accepted},
	})
}

// TestHostileClaims holds the rows about claims; all are signed with our key.
func TestHostileClaims(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	with := func(name string, value any) string {
		return is.sign(t, is.claims(map[string]any{name: value}), nil)
	}
	at := func(name string, d time.Duration) string { return with(name, now().Add(d).Unix()) }
	body := func(claims string) string { return raw(`{"alg":"HS256"}`, claims, is.hmac) }
	rest := `,"iss":"https://issuer.example","aud":"roomcast"}`
	exp := `,"exp":` + strconv.FormatInt(now().Add(time.Hour).Unix(), 10)

	runHostile(t, is.verifier(t), map[string]hostileCase{
		"no exp":                    {with("exp", nil), refused},
		"exp null":                  {body(`{"sub":"ann","exp":null` + rest), refused},
		"exp in 100 years":          {at("exp", 100*365*24*time.Hour), refused},
		"exp in milliseconds":       {with("exp", now().UnixMilli()), refused},
		"exp just in the limit":     {at("exp", MaxLifetime), accepted},
		"exp just over the limit":   {at("exp", MaxLifetime+time.Second), refused},
		"exp as string":             {with("exp", strconv.FormatInt(now().Add(time.Hour).Unix(), 10)), refused},
		"exp as float":              {with("exp", float64(now().Add(time.Hour).Unix())+0.5), accepted}, // RFC 7519 §2 allows it
		"exp 1e309":                 {body(`{"sub":"ann","exp":1e309` + rest), refused},
		"exp with 4,000 digits":     {body(`{"sub":"ann","exp":` + strings.Repeat("9", 4000) + rest), refused},
		"exp 1e300":                 {body(`{"sub":"ann","exp":1e300` + rest), refused},
		"exp true":                  {with("exp", true), refused},
		"exp negative":              {with("exp", -1), expired},
		"exp zero":                  {with("exp", 0), expired},
		"exp under another case":    {body(`{"sub":"ann","EXP":` + exp[7:] + rest), refused},
		"expired by 1 s":            {at("exp", -time.Second), accepted}, // within the leeway
		"expired by the leeway - 1": {at("exp", -Leeway+time.Second), accepted},
		"expired by the leeway":     {at("exp", -Leeway), expired},
		"expired long ago":          {at("exp", -10_000*time.Hour), expired},
		"expired and other iss":     {is.sign(t, is.claims(map[string]any{"exp": 1, "iss": "x"}), nil), refused},
		"nbf in the future":         {at("nbf", Leeway+time.Second), refused},
		"nbf within the leeway":     {at("nbf", Leeway), accepted},
		"nbf as string":             {with("nbf", "0"), refused},
		"iat as string":             {with("iat", "0"), refused},
		"aud missing":               {with("aud", nil), refused},
		"aud other":                 {with("aud", "other"), refused},
		"aud empty":                 {with("aud", ""), refused},
		"aud list without ours":     {with("aud", []string{"a", "b"}), refused},
		"aud list with ours":        {with("aud", []string{"a", "roomcast"}), accepted},
		"aud list of numbers":       {with("aud", []any{"roomcast", 1}), refused},
		"aud object":                {with("aud", map[string]any{"roomcast": 1}), refused},
		"iss missing":               {with("iss", nil), refused},
		"iss other":                 {with("iss", "https://issuer.example/"), refused},
		"iss list":                  {with("iss", []string{"https://issuer.example"}), refused},
		"sub missing":               {with("sub", nil), refused},
		"sub empty":                 {with("sub", ""), refused},
		"sub number":                {with("sub", 7), refused},
		"sub of 128 bytes":          {with("sub", strings.Repeat("u", 128)), accepted},
		"sub of 129 bytes":          {with("sub", strings.Repeat("u", 129)), refused},
		"sub with line break":       {with("sub", "ann\r\nbob"), refused},
		"sub with NUL":              {with("sub", "ann\x00"), refused},
		"sub not UTF-8":             {body(`{"sub":"ann` + "\xff" + `"` + exp + rest), refused},
		"sub lone surrogate":        {body(`{"sub":"ann\ud800"` + exp + rest), refused},
		"jti number":                {with("jti", 1), refused},
		"jti of 129 bytes":          {with("jti", strings.Repeat("j", 129)), refused},
		"jti with line break":       {with("jti", "a\nb"), refused},
		"claims null":               {body(`null`), refused},
		"claims a list":             {body(`[]`), refused},
		"claims a string":           {body(`"ann"`), refused},
		"claims with trailing data": {body(`{"sub":"ann"` + exp + rest + `{}`), refused},
		"claims with BOM":           {body("\ufeff" + `{"sub":"ann"` + exp + rest), refused},
		"claims of 2,000 levels":    {body(strings.Repeat("[", 2000)), refused},
	})
}

// TestUnknownKids checks that ten thousand different kids leave nothing behind: a kid
// is a map key only.
func TestUnknownKids(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	before := len(v.keys.byKid)
	for i := range 10_000 {
		token := raw(`{"alg":"HS256","kid":"`+strconv.Itoa(i)+`"}`, `{}`, []byte("x"))
		if _, err := v.Verify(token, now()); reasonOf(t, err) != refused {
			t.Fatalf("got %v, want it refused", err)
		}
	}
	if got := len(v.keys.byKid); got != before {
		t.Errorf("got %d keys after, want %d", got, before)
	}
}

// TestTokenIsNoPosition: an access token where a position belongs.
func TestTokenIsNoPosition(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	if p, err := room.ParsePosition(is.sign(t, is.claims(nil), nil), "after"); err == nil {
		t.Errorf("got position %v, want an error", p)
	}
}

// TestExpiredNeedsSignature: who cannot sign must not learn what is expired.
func TestExpiredNeedsSignature(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	token := raw(`{"alg":"HS256"}`, text(t, is.claims(map[string]any{"exp": 1})), []byte("another key"))
	if _, err := is.verifier(t).Verify(token, now()); reasonOf(t, err) != refused {
		t.Errorf("got %v, want %s", err, refused)
	}
}

// TestRS256WithPKCS1Digest makes sure that the RS256 path takes what the standard
// library signs, and only over this very text.
func TestRS256WithPKCS1Digest(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	signed := signWith(t, jwt.SigningMethodRS256, is.rsa, is.claims(nil), nil)
	cut := strings.LastIndex(signed, ".")
	digest := sha256.Sum256([]byte(signed[:cut]))
	sig, err := rsa.SignPKCS1v15(nil, is.rsa, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	token := signed[:cut+1] + base64.RawURLEncoding.EncodeToString(sig)
	if _, err := is.verifier(t).Verify(token, now()); err != nil {
		t.Errorf("got %v, want it accepted", err)
	}
}

// resign changes a token's signature.
func resign(t testing.TB, token string, change func([]byte) []byte) string {
	t.Helper()
	cut := strings.LastIndex(token, ".") + 1
	sig, err := base64.RawURLEncoding.DecodeString(token[cut:])
	if err != nil {
		t.Fatal(err)
	}
	return token[:cut] + base64.RawURLEncoding.EncodeToString(change(sig))
}

func asASN1(sig []byte) []byte {
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]),
	})
	if err != nil {
		return nil
	}
	return der
}

// malleateBase64 changes the last character in bits that a lax decoder ignores.
func malleateBase64(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}
