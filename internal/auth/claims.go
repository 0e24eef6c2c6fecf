package auth

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// Limits of claims.
const (
	// Leeway is how far the clocks of issuer and node may differ: a token counts from
	// nbf - Leeway until exp + Leeway.
	Leeway = 30 * time.Second

	// MaxLifetime is how far exp may lie ahead. It bounds how long a revocation must
	// be remembered, and refuses an exp in milliseconds.
	MaxLifetime = 400 * 24 * time.Hour

	// MaxPatterns is the number of patterns that a rooms claim may have.
	MaxPatterns = 1000
)

// maxSeconds bounds NumericDates so that they fit into a time: the year 5138.
const maxSeconds = 1e11

// claims is what we read of a token's claims.
type claims struct {
	user, tokenID                string
	issuer                       string
	audience                     []string
	issuedAt, notBefore, expires time.Time
	rooms                        map[string][]string
	grants                       grants
}

// readClaims reads and checks the claims as far as that needs neither keys,
// configuration nor clock. It goes on after a problem, so that all can be shown; the
// claims count only if there is none.
func readClaims(raw map[string]any) (*claims, []error) {
	r := &claimReader{raw: raw}
	c := &claims{
		user:      r.user(),
		tokenID:   r.text("jti"),
		issuer:    r.text("iss"),
		audience:  r.audience(),
		issuedAt:  r.date("iat"),
		notBefore: r.date("nbf"),
		expires:   r.date("exp"),
	}
	if err := room.CheckUser(c.tokenID, "jti"); err != nil { // a user's limits hold for it too
		r.problem("%w", err)
	}
	if raw["exp"] == nil {
		r.problem("exp is missing")
	}
	c.rooms = r.rooms(&c.grants)
	r.rpc(&c.grants)
	return c, r.problems
}

// judge checks what needs the clock. errExpired is among the problems of a token
// that was good once.
func (c *claims) judge(now time.Time) []error {
	var problems []error
	if !now.Before(c.expires.Add(Leeway)) {
		problems = append(problems, errExpired)
	}
	if c.expires.Sub(now) > MaxLifetime {
		problems = append(problems, fmt.Errorf("exp is more than %d days ahead",
			int(MaxLifetime/(24*time.Hour))))
	}
	if !c.notBefore.IsZero() && now.Before(c.notBefore.Add(-Leeway)) {
		problems = append(problems, errors.New("nbf is in the future"))
	}
	return problems
}

// claimReader reads single claims and collects what is wrong with them. A claim that
// is null counts as absent.
type claimReader struct {
	raw      map[string]any
	problems []error
}

func (r *claimReader) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, args...))
}

func (r *claimReader) text(name string) string {
	switch v := r.raw[name].(type) {
	case nil:
		return ""
	case string:
		return v
	}
	r.problem("%s is not a string", name)
	return ""
}

func (r *claimReader) user() string {
	if r.raw["sub"] == nil {
		r.problem("sub is missing")
		return ""
	}
	user := r.text("sub")
	if err := checkUser(user); err != nil {
		r.problem("%w", err)
	}
	return user
}

// checkUser checks a sub. U+FFFD is refused because the decoder puts it in place of
// broken text: two users could become one.
func checkUser(user string) error {
	if user == "" {
		return room.Invalidf(room.ReasonInvalidUser, "sub", "is empty")
	}
	if strings.ContainsRune(user, '\uFFFD') {
		return room.Invalidf(room.ReasonInvalidUser, "sub", "is not valid Unicode text")
	}
	return room.CheckUser(user, "sub")
}

// date reads a NumericDate (RFC 7519 §2): seconds, which may have a fraction; we cut
// it off.
func (r *claimReader) date(name string) time.Time {
	switch v := r.raw[name].(type) {
	case nil:
	case float64:
		if math.Abs(v) <= maxSeconds {
			return time.Unix(int64(math.Floor(v)), 0)
		}
		r.problem("%s is out of range; it is in seconds since 1970", name)
	default:
		r.problem("%s is not a number", name)
	}
	return time.Time{}
}

// audience reads aud: a string or a list of strings (RFC 7519 §4.1.3).
func (r *claimReader) audience() []string {
	switch v := r.raw["aud"].(type) {
	case nil:
		return nil
	case string:
		return []string{v}
	case []any:
		if words, ok := texts(v); ok {
			return words
		}
	}
	r.problem("aud is neither a string nor a list of strings")
	return nil
}

// rooms reads the rooms claim into the grants and returns it in its long form.
func (r *claimReader) rooms(g *grants) map[string][]string {
	switch v := r.raw["rooms"].(type) {
	case nil:
		return nil
	case []any:
		patterns, ok := texts(v)
		if !ok {
			break
		}
		rooms := make(map[string][]string, len(patterns))
		for _, pattern := range patterns {
			rooms[pattern] = []string{RightSubscribe}
		}
		return r.grant(g, rooms)
	case map[string]any:
		rooms := make(map[string][]string, len(v))
		for pattern, list := range v {
			items, isList := list.([]any)
			words, ok := texts(items)
			if !isList || !ok {
				r.problem("rooms: the rights of %s are not a list of strings", quote(pattern))
			}
			rooms[pattern] = words
		}
		return r.grant(g, rooms)
	}
	r.problem("rooms is neither a list of patterns nor an object of pattern to rights")
	return nil
}

func (r *claimReader) grant(g *grants, rooms map[string][]string) map[string][]string {
	if len(rooms) > MaxPatterns {
		r.problem("rooms has %d patterns; the limit is %d", len(rooms), MaxPatterns)
		return nil
	}
	for _, pattern := range slices.Sorted(maps.Keys(rooms)) {
		granted, err := parseRights(rooms[pattern])
		if err != nil {
			r.problem("rooms: pattern %s: %w", quote(pattern), err)
		}
		if err := g.add(pattern, granted); err != nil {
			r.problem("rooms: %s: %w", quote(pattern), err)
		}
	}
	return rooms
}

func (r *claimReader) rpc(g *grants) {
	if r.raw["rpc"] == nil {
		return
	}
	items, isList := r.raw["rpc"].([]any)
	words, ok := texts(items)
	if !isList || !ok {
		r.problem("rpc is not a list of strings")
		return
	}
	granted, err := parseRPC(words)
	if err != nil {
		r.problem("%w", err)
	}
	g.rpc = granted
}

// parseRights reads the words of one pattern.
func parseRights(words []string) (rights, error) {
	var sum rights
	for _, word := range words {
		right, known := rightOf(word)
		if !known {
			return 0, fmt.Errorf("unknown right %s; want subscribe, presence or publish", quote(word))
		}
		sum |= right
	}
	return sum, nil
}

// parseRPC reads the words of the rpc claim.
func parseRPC(words []string) (rpcs, error) {
	var sum rpcs
	for _, word := range words {
		group, known := rpcOf(word)
		if !known {
			return 0, fmt.Errorf("rpc: unknown word %s; want publish, presence, history, connections or cluster", quote(word))
		}
		sum |= group
	}
	return sum, nil
}

func texts(list []any) ([]string, bool) {
	words := make([]string, 0, len(list))
	for _, item := range list {
		word, ok := item.(string)
		if !ok {
			return nil, false
		}
		words = append(words, word)
	}
	return words, true
}

// quote shows a piece of a token's content, cut to what a log line bears.
func quote(s string) string { return fmt.Sprintf("%+.40q", s) }
