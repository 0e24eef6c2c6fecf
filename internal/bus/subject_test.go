package bus

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		if got := encodeRoom(room.Name(name)); got != want {
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
		token := encodeRoom(name)
		if strings.ContainsAny(token, ".*> \t\r\n") || token == "" || len(token) > 3*room.MaxNameLen {
			t.Fatalf("token %q", token)
		}
		back, err := decodeToken(token)
		if err != nil || back != s {
			t.Fatalf("%q became %q and came back as %q (%v)", s, token, back, err)
		}
		policy := room.DefaultPolicy()
		if got := strings.Count(subjectsOf(name, &policy).pub, "."); got != 4 {
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

func TestRecord(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	for _, kind := range []room.PayloadKind{room.Text, room.JSON, room.Data} {
		p := &room.Publication{
			Room: "a", Payload: room.Payload{Kind: kind, Bytes: []byte(`"x"`)}, Event: "e", TTL: time.Minute, ExcludeUser: "u",
		}
		body, err := encodeRecord(p, now)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a retry draws another check
			check := setCheck(body)
			got, err := decodeRecord(body, "a", "epoch", 7, now)
			if err != nil {
				t.Fatal(err)
			}
			pos := room.Position{Epoch: "epoch", Seq: 7, Check: check}
			want := &room.Message{
				Room: "a", ID: pos.String(), Position: pos, Event: "e", Payload: p.Payload,
				ExcludeUser: "u", Expires: now.Add(time.Minute), Time: now,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}
