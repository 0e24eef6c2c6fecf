package auth

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// TestGrants lists who may do what: the letters s, p and w of want stand for
// MaySubscribe, MayPresence and MayPublish.
func TestGrants(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	object := func(pattern string, words ...string) map[string]any {
		return map[string]any{pattern: append([]string{}, words...)}
	}
	tests := map[string]struct {
		rooms any
		room  room.Name
		want  string
	}{
		"list is subscribe":               {[]string{"a", "b"}, "b", "s"},
		"list twice the same":             {[]string{"a", "a"}, "a", "s"},
		"absent is none":                  {nil, "a", ""},
		"empty list is none":              {[]string{}, "a", ""},
		"own personal room":               {nil, "user:ann", "s"},
		"own personal room, more rights":  {object("user:*", "publish"), "user:ann", "sw"},
		"another's personal room":         {nil, "user:anna", ""},
		"personal room without user":      {nil, "user:", ""},
		"exact":                           {object("a", "subscribe", "presence", "publish"), "a", "spw"},
		"exact is not a prefix":           {object("a", "subscribe"), "ab", ""},
		"exact, case counts":              {object("a", "subscribe"), "A", ""},
		"only presence":                   {object("a", "presence"), "a", "p"},
		"only publish":                    {object("a", "publish"), "a", "w"},
		"no rights":                       {object("a"), "a", ""},
		"prefix":                          {object("orders:*", "subscribe"), "orders:42", "s"},
		"prefix matches an empty rest":    {object("orders:*", "subscribe"), "orders:", "s"},
		"prefix needs all before the *":   {object("orders:*", "subscribe"), "orders", ""},
		"prefix without colon":            {object("ord*", "subscribe"), "orders:42", "s"},
		"all":                             {object("*", "subscribe"), "anything", "s"},
		"exact adds to prefix":            {map[string]any{"a:1": []string{"publish"}, "a:*": []string{"subscribe"}, "*": []string{"presence"}}, "a:1", "spw"},
		"prefix without the exact":        {map[string]any{"a:1": []string{"publish"}, "a:*": []string{"subscribe"}}, "a:2", "s"},
		"other characters mean just them": {object("a.?[b]>", "subscribe"), "a.?[b]>", "s"},
		"NFC is not NFD":                  {object("caf\u00e9", "subscribe"), "cafe\u0301", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := v.Verify(is.sign(t, is.claims(map[string]any{"rooms": tc.rooms}), nil), now())
			if err != nil {
				t.Fatal(err)
			}
			if got := letters(c, tc.room); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func letters(c *Caller, n room.Name) string {
	var b strings.Builder
	for _, may := range []struct {
		letter string
		ok     bool
	}{{"s", c.MaySubscribe(n)}, {"p", c.MayPresence(n)}, {"w", c.MayPublish(n)}} {
		if may.ok {
			b.WriteString(may.letter)
		}
	}
	return b.String()
}

func TestGrantsRefused(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	many := make([]string, MaxPatterns+1)
	for i := range many {
		many[i] = fmt.Sprintf("%d", i)
	}
	tests := map[string]map[string]any{
		"unknown right":         {"rooms": map[string]any{"a": []string{"subscribe", "admin"}}},
		"right in upper case":   {"rooms": map[string]any{"a": []string{"SUBSCRIBE"}}},
		"right is no list":      {"rooms": map[string]any{"a": "subscribe"}},
		"right is null":         {"rooms": map[string]any{"a": nil}},
		"right is a number":     {"rooms": map[string]any{"a": []any{1}}},
		"rooms is a string":     {"rooms": "a"},
		"rooms is true":         {"rooms": true},
		"pattern is a number":   {"rooms": []any{"a", 1}},
		"pattern empty":         {"rooms": []string{""}},
		"* in the middle":       {"rooms": []string{"a*b"}},
		"* twice":               {"rooms": []string{"a**"}},
		"* first":               {"rooms": []string{"*:a"}},
		"pattern of 201 bytes":  {"rooms": []string{strings.Repeat("a", 201)}},
		"pattern with newline":  {"rooms": []string{"a\nb"}},
		"pattern of our own":    {"rooms": []string{"_canary*"}},
		"too many patterns":     {"rooms": many},
		"rpc is a string":       {"rpc": "publish"},
		"rpc unknown":           {"rpc": []string{"publish", "everything"}},
		"rpc *":                 {"rpc": []string{"*"}},
		"rpc has a number":      {"rpc": []any{1}},
		"rpc is an object":      {"rpc": map[string]any{"publish": true}},
		"one bad among thirty":  {"rooms": append(many[:30:30], "b*d")},
		"good rooms, bad right": {"rooms": map[string]any{"a": []string{}, "b": []string{""}}},
	}
	for name, changes := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := v.Verify(is.sign(t, is.claims(changes), nil), now())
			if got := reasonOf(t, err); got != refused {
				t.Errorf("got caller %v, reason %q; want %q", c, got, refused)
			}
		})
	}
}

func TestMayCall(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	all := []string{RPCPublish, RPCPresence, RPCHistory, RPCConnections, RPCCluster}
	every := map[string]any{"a": []string{"subscribe", "presence", "publish"}}
	tests := map[string]struct {
		rpc   any
		rooms any
		calls string // groups allowed at all
		inA   string // groups allowed for room a
	}{
		"absent":             {nil, every, "", ""},
		"empty":              {[]string{}, every, "", ""},
		"all, no rooms":      {all, nil, "publish presence history connections cluster", ""},
		"all, all rights":    {all, every, "publish presence history connections cluster", "publish presence history connections cluster"},
		"all, list":          {all, []string{"a"}, "publish presence history connections cluster", "publish presence history connections cluster"},
		"all, publish right": {all, map[string]any{"a": []string{"publish"}}, "publish presence history connections cluster", "publish presence history connections cluster"},
		"one":                {[]string{"publish"}, every, "publish", "publish"},
		"one, other room":    {[]string{"publish"}, map[string]any{"b": []string{"publish"}}, "publish", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := v.Verify(is.sign(t, is.claims(map[string]any{"rpc": tc.rpc, "rooms": tc.rooms}), nil), now())
			if err != nil {
				t.Fatal(err)
			}
			var calls, inA []string
			for _, word := range append(all, "", "unknown") {
				if c.MayCall(word) {
					calls = append(calls, word)
				}
				if c.MayCallRoom(word, "a") {
					inA = append(inA, word)
				}
			}
			if got := strings.Join(calls, " "); got != tc.calls {
				t.Errorf("MayCall: got %q, want %q", got, tc.calls)
			}
			if got := strings.Join(inA, " "); got != tc.inA {
				t.Errorf("MayCallRoom: got %q, want %q", got, tc.inA)
			}
		})
	}
}

func TestGuestAndEverything(t *testing.T) {
	t.Parallel()
	guest, every := Guest(), Everything()
	for _, c := range []*Caller{guest, every} {
		if got := letters(c, "any:room"); got != "spw" {
			t.Errorf("got %q, want all rights", got)
		}
		if c.Expired(now().Add(1000 * time.Hour)) {
			t.Error("got expired, want never")
		}
	}
	if guest.User != "guest" || guest.MayCall(RPCPublish) || guest.MayCallRoom(RPCPublish, "a") {
		t.Error("a guest may call gRPC")
	}
	if !every.MayCall(RPCCluster) || !every.MayCallRoom(RPCPublish, "a") || every.MayCall("unknown") {
		t.Error("Everything may not call gRPC, or more than there is")
	}
}

func TestMayCallAll(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern string
		rpc     rpcs
		want    bool
	}{
		"everything":      {"*", allRPCs, true},
		"shorter":         {"us*", allRPCs, true},
		"the same":        {"user:*", allRPCs, true},
		"longer":          {"user:a*", allRPCs, false},
		"another":         {"chat:*", allRPCs, false},
		"a room, exactly": {"user:", allRPCs, false},
		"another right":   {"*", rpcPublish, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &Caller{grants: grants{rpc: test.rpc}}
			if err := c.grants.add(test.pattern, subscribe); err != nil {
				t.Fatal(err)
			}
			if got := c.MayCallAll(RPCConnections, "user:"); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	c := &Caller{Expires: now()}
	if c.Expired(now().Add(Leeway - time.Nanosecond)) {
		t.Error("got expired within the leeway")
	}
	if !c.Expired(now().Add(Leeway)) {
		t.Error("got not expired at the end of the leeway")
	}
}

func TestCallerLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	c := Guest()
	c.TokenID = "t1"
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "caller", c)
	if got := b.String(); !strings.Contains(got, "caller.user=guest caller.token_id=t1") || strings.Contains(got, "grants") {
		t.Errorf("got log line %q", got)
	}
}

func BenchmarkMaySubscribe(b *testing.B) {
	var g grants
	for i := range MaxPatterns {
		if err := g.add(fmt.Sprintf("room:%d:*", i), subscribe); err != nil {
			b.Fatal(err)
		}
	}
	c := &Caller{User: "ann", grants: g}
	b.ReportAllocs()
	for b.Loop() {
		if c.MaySubscribe("elsewhere:1") {
			b.Fatal("got allowed")
		}
	}
}
