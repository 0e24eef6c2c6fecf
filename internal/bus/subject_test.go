package bus

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"testing"

	"github.com/roomcast/roomcast/internal/room"
)

func TestEncodeRoom(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"orders:42":  "orders:42",
		"a.b":        "a%2Eb",
		"a b":        "a%20b",
		"100%":       "100%25",
		">":          "%3E",
		"$JS.API":    "%24JS%2EAPI",
		"é":          "%C3%A9",
		"~node":      "%7Enode", // so that no room is the canary's
		"UPPER-_low": "UPPER-_low",
	}
	for name, want := range tests {
		if got := string(encodeRoom(nil, room.Name(name))); got != want {
			t.Errorf("encodeRoom(%q) = %q, want %q", name, got, want)
		}
	}
}

// FuzzSubject proves that no name becomes a wildcard, a further token or another
// name's token, and that the token tells the name.
func FuzzSubject(f *testing.F) {
	for _, seed := range []string{"a", "a.b", "x:*", "%41", "é", "a\nb", strings.Repeat("é", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := room.ParseName(s, "room")
		if err != nil {
			return
		}
		token := string(encodeRoom(nil, name))
		if strings.ContainsAny(token, ".*> \t\r\n") || token == "" || len(token) > 3*room.MaxNameLen {
			t.Fatalf("token %q", token)
		}
		back, err := decodeToken(token)
		if err != nil || back != s {
			t.Fatalf("%q became %q and came back as %q (%v)", s, token, back, err)
		}
		policy := room.DefaultPolicy()
		if got := strings.Count(pubSubject(name, &policy), "."); got != 4 {
			t.Fatalf("%d dots in the subject", got)
		}
	})
}

// decodeToken is the inverse of encodeRoom, written for the test alone.
func decodeToken(token string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] != '%' {
			b.WriteByte(token[i])
			continue
		}
		c, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
		if err != nil {
			return "", err
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

func TestStoredAt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		seq uint64
		ok  bool
	}{
		`{"stream":"RC_a","seq":7}`:                      {7, true},
		`{"stream":"RC_a","seq":999999999999999999}`:     {999999999999999999, true},
		`{"stream":"RC_a","seq":9999999999999999999}`:    {},
		`{"stream":"RC_a","seq":7,"duplicate": true}`:    {},
		`{"stream":"RC_a","domain":"d","seq":7}`:         {},
		`{"stream":"RC_a","seq":}`:                       {},
		`{"stream":"RC_a","seq":7`:                       {},
		`{"stream":"RC_a","seq":-7}`:                     {},
		`{"stream":"RC_a","seq": 7}`:                     {},
		`{"error":{"code":503},"stream":"RC_a","seq":0}`: {},
		``: {},
	}
	for ack, want := range tests {
		if seq, ok := storedAt([]byte(ack)); seq != want.seq || ok != want.ok {
			t.Errorf("storedAt(%s) = %d, %v; want %d, %v", ack, seq, ok, want.seq, want.ok)
		}
	}
}

// TestPartition: the digits are a part of every stored subject, so they must never
// change.
func TestPartition(t *testing.T) {
	t.Parallel()
	for _, name := range []room.Name{"a", "orders:42", "user:ü", "x.y"} {
		h := fnv.New32a()
		h.Write([]byte(name))
		want := fmt.Sprintf("%02x", h.Sum32()&0xff)
		if got := string(partition(nil, name)); got != want {
			t.Errorf("partition(%q) = %s, want %s", name, got, want)
		}
	}
}
