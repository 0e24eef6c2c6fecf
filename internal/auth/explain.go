package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Explanation is what a token says, for its owner to read. Nothing of it is proven:
// the signature, iss and aud are not looked at.
type Explanation struct {
	Header  json.RawMessage     // as sent; nil if it cannot be decoded
	Claims  json.RawMessage     // as sent; nil if they cannot be decoded
	User    string              // sub
	Expires time.Time           // exp; zero if missing or wrong
	Rooms   map[string][]string // pattern to rights, also if the token has a plain list
	RPC     []string            // groups of gRPC methods, sorted

	// Problems are why no node would take the token, whatever its keys. Empty = it is
	// good if its signature, iss and aud are.
	Problems []string
}

// Explain decodes a token without any key and judges it at this moment. It does not
// fail: what cannot be decoded is a problem.
func Explain(token string, now time.Time) *Explanation {
	e := &Explanation{}
	if err := checkShape(token); err != nil {
		e.note(err)
		return e
	}
	parts := strings.Split(token, ".")
	var header, raw map[string]any
	e.Header = e.decode("header", parts[0], &header)
	e.Claims = e.decode("claims", parts[1], &raw)
	if _, err := base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		e.note(fmt.Errorf("the signature is not base64url: %w", err))
	}
	if e.Header != nil {
		e.note(checkHeader(header)...)
	}
	if e.Claims == nil {
		return e
	}
	c, problems := readClaims(raw)
	e.note(problems...)
	if !c.expires.IsZero() {
		e.note(c.judge(now)...)
	}
	e.User, e.Expires, e.Rooms, e.RPC = c.user, c.expires, c.rooms, c.grants.rpc.words()
	return e
}

func (e *Explanation) note(problems ...error) {
	for _, p := range problems {
		e.Problems = append(e.Problems, p.Error())
	}
}

func (e *Explanation) decode(name, part string, into *map[string]any) json.RawMessage {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		e.note(fmt.Errorf("the %s part is not base64url: %w", name, err))
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		e.note(fmt.Errorf("the %s part is not a JSON object: %w", name, err))
		return nil
	}
	return data
}

// String returns the explanation as lines for a terminal.
func (e *Explanation) String() string {
	var b strings.Builder
	for _, part := range []struct {
		name string
		json json.RawMessage
	}{{"header", e.Header}, {"claims", e.Claims}} {
		if part.json != nil {
			fmt.Fprintf(&b, "%-9s%s\n", part.name, indent(part.json))
		}
	}
	if e.User != "" {
		fmt.Fprintf(&b, "%-9s%+q\n", "user", e.User)
	}
	if !e.Expires.IsZero() {
		fmt.Fprintf(&b, "%-9s%s\n", "expires", e.Expires.UTC().Format(time.RFC3339))
	}
	for _, pattern := range slices.Sorted(maps.Keys(e.Rooms)) {
		fmt.Fprintf(&b, "%-9s%+q: %+q\n", "rooms", pattern, e.Rooms[pattern])
	}
	if len(e.RPC) > 0 {
		fmt.Fprintf(&b, "%-9s%s\n", "rpc", strings.Join(e.RPC, ", "))
	}
	for _, problem := range e.Problems {
		fmt.Fprintf(&b, "%-9s%s\n", "problem", problem)
	}
	return b.String()
}

// indent lays JSON out. What a terminal would obey and not show (control characters,
// writing direction) is escaped.
func indent(data json.RawMessage) string {
	var laid bytes.Buffer
	if err := json.Indent(&laid, data, strings.Repeat(" ", 9), "  "); err != nil {
		return fmt.Sprintf("%+q", data)
	}
	var b strings.Builder
	for _, r := range laid.String() {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "\\u%04x", r)
	}
	return b.String()
}

// words returns the set's words, sorted.
func (s rpcs) words() []string {
	var words []string
	for _, word := range []string{RPCCluster, RPCConnections, RPCHistory, RPCPresence, RPCPublish} {
		if group, _ := rpcOf(word); s&group != 0 {
			words = append(words, word)
		}
	}
	return words
}
