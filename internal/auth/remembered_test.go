package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRememberedAgainstTheClock: a token that was found good is judged by the clock of
// each call, like one that comes for the first time.
func TestRememberedAgainstTheClock(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	token := is.sign(t, is.claims(map[string]any{"nbf": now().Unix()}), nil)
	tests := map[string]time.Duration{
		"now":                    0,
		"just before the end":    time.Hour + Leeway - time.Second,
		"at the end":             time.Hour + Leeway,
		"long after":             30 * 24 * time.Hour,
		"clock set back":         -Leeway - time.Second,
		"clock set back by much": -MaxLifetime,
	}
	for name, after := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, fresh := is.verifier(t), is.verifier(t)
			first, err := v.Verify(token, now())
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.Verify(token, now().Add(after))
			_, want := fresh.Verify(token, now().Add(after))
			if reasonOf(t, err) != reasonOf(t, want) {
				t.Errorf("got %v, want %v as without memory", err, want)
			}
			if want == nil && got != first {
				t.Error("the token was examined again")
			}
		})
	}
}

// TestRememberedIsTheWholeToken: what differs from a good token in one byte is refused.
func TestRememberedIsTheWholeToken(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	v := is.verifier(t)
	token := is.sign(t, is.claims(nil), nil)
	if _, err := v.Verify(token, now()); err != nil {
		t.Fatal(err)
	}
	for i := range token {
		other := "A"
		if token[i] == 'A' {
			other = "B"
		}
		for _, changed := range []string{token[:i] + other + token[i+1:], token[:i], token[:i] + token[i+1:]} {
			if changed == "" {
				continue
			}
			if _, err := v.Verify(changed, now()); reasonOf(t, err) != refused {
				t.Fatalf("byte %d changed: got %v, want %s", i, err, refused)
			}
		}
	}
	if n := len(v.good.young) + len(v.good.old); n != 1 {
		t.Errorf("%d tokens are remembered, want the good one", n)
	}
}

// nobody is refused.
func nobody(*Caller) bool { return false }

// TestRememberedIsBounded: tokens without end neither take memory without end nor push
// out one that is used between them.
func TestRememberedIsBounded(t *testing.T) {
	t.Parallel()
	var r remembered
	busy := &verdict{token: "busy", claims: claims{expires: now().Add(time.Hour)}, caller: &Caller{}}
	r.keep(busy, nobody)
	for i := range 10_000 {
		r.keep(&verdict{token: fmt.Sprintf("%05d", i) + strings.Repeat("x", 500), caller: &Caller{}}, nobody)
		if r.find("busy", now()) != busy.caller {
			t.Fatalf("after %d others it is forgotten", i)
		}
		if i%1000 != 0 {
			continue
		}
		for _, generation := range []map[string]*verdict{r.young, r.old} {
			bytes := 0
			for token := range generation {
				bytes += len(token)
			}
			if bytes > maxRemembered {
				t.Fatalf("%d bytes of tokens, the limit is %d", bytes, maxRemembered)
			}
		}
	}
	if r.find("00000"+strings.Repeat("x", 500), now()) != nil {
		t.Error("the first of all is still remembered")
	}
}

// TestRememberedAllocs: a token that is remembered costs no memory.
func TestRememberedAllocs(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	is := newIssuer(t)
	v := is.verifier(t)
	token := is.sign(t, is.claims(map[string]any{"nbf": now().Unix()}), nil)
	n := testing.AllocsPerRun(100, func() {
		if _, err := v.Verify(token, now()); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
