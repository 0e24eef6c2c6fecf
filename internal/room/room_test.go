package room

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseName(t *testing.T) {
	t.Parallel()
	good := []string{"a", "orders:42", "é ☃", "with space", "a.b>c%41", strings.Repeat("x", 200), strings.Repeat("é", 100), ":", "$SYS"}
	for _, s := range good {
		if _, err := ParseName(s, "room"); err != nil {
			t.Errorf("ParseName(%.20q): %v", s, err)
		}
	}
	bad := map[string]string{
		"":                        "1 to 200 bytes",
		strings.Repeat("x", 201):  "has 201 bytes; the limit is 200",
		strings.Repeat("é", 101):  "has 202 bytes; the limit is 200",
		"a*":                      "'*'",
		"_own":                    "'_'",
		"a\nb":                    "U+000A at byte 1",
		"a\u007f":                 "U+007F",
		"a\u0085":                 "U+0085",
		"a\xff":                   "UTF-8",
		"nul\x00":                 "U+0000",
		"\xed\xa0\x80 surrogate ": "UTF-8",
	}
	for s, want := range bad {
		_, err := ParseName(s, "publish.room")
		e := AsError(err)
		if err == nil || e.Kind != Invalid || e.Reason != ReasonInvalidRoom || e.Field != "publish.room" || !strings.Contains(e.Error(), want) {
			t.Errorf("ParseName(%.20q): %v; want the words %q", s, err, want)
		}
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	chat := DefaultPolicy()
	chat.ClientPublish = true
	p, err := NewPolicies(map[string]Policy{"chat": chat})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[Name]string{
		"chat:7": "chat", "chat": "default", "chats:7": "default", "other:7": "default", "chat:": "chat", "plain": "default",
	} {
		policy := p.Of(name)
		if policy.Namespace != want || policy.ClientPublish != (want == "chat") {
			t.Errorf("Of(%q) is of %q", name, policy.Namespace)
		}
	}
	var names []string
	for _, policy := range p.All() {
		names = append(names, policy.Namespace)
	}
	if diff := cmp.Diff([]string{"chat", "default"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestPoliciesRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name   string
		change func(*Policy)
		want   string
	}{
		"name":      {"Chat", func(*Policy) {}, `"Chat"`},
		"size":      {"a", func(p *Policy) { p.History.Size = -1 }, "namespaces.a: history.size is -1"},
		"ttl":       {"a", func(p *Policy) { p.History.TTL = time.Second }, "at least 2m0s"},
		"max_bytes": {"a", func(p *Policy) { p.History.MaxBytes = 5 }, "history.max_bytes is 5"},
		"slow":      {"a", func(p *Policy) { p.Slow = "drop" }, `slow is "drop"`},
		"payload":   {"a", func(p *Policy) { p.MaxPayload = 1 << 30 }, "max_payload is"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := DefaultPolicy()
			test.change(&policy)
			_, err := NewPolicies(map[string]Policy{test.name: policy})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want the words %q", err, test.want)
			}
		})
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Position{
		"abc.7.":                         {Epoch: "abc", Seq: 7},
		"abc.7.z":                        {Epoch: "abc", Seq: 7, Check: 35},
		"abc.7.~z":                       {Epoch: "abc", Seq: 7, Moment: 35},
		"e.18446744073709551615.1z141z3": {Epoch: "e", Seq: 1<<64 - 1, Check: 1<<32 - 1},
	} {
		got, err := ParsePosition(text, "after")
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParsePosition(%q) = %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "abc", "abc.7", ".7.", "abc..", "abc.-1.", "abc.07.", "abc.7.0", "abc.7.Z", "abc.7.1z141z4",
		"abc.18446744073709551616.", "abc.7.z.z", "abc.7.~", "abc.7.~0", "abc.7.z~z", "abc.7.~~z", "abc. 7.z", "a\n.7.", strings.Repeat("x", 65) + ".7.",
	} {
		if got, err := ParsePosition(text, "after"); AsError(err).Reason != ReasonInvalidPosition {
			t.Errorf("ParsePosition(%q) = %+v, %v; want a refusal", text, got, err)
		}
	}
	if s := (Position{}).String(); s != "" {
		t.Errorf("the zero position is %q", s)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add("abc.7.z")
	f.Add("abc.7.")
	f.Add("abc.7.~z")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s, "after")
		if err == nil && p.String() != s {
			t.Fatalf("%q came back as %q", s, p.String())
		}
	})
}

func TestPublicationCheck(t *testing.T) {
	t.Parallel()
	policy := DefaultPolicy()
	policy.MaxPayload = 10
	tests := map[string]struct {
		p     Publication
		field string // "" = accepted
		want  string
	}{
		"empty":        {Publication{}, "", ""},
		"at the limit": {Publication{Payload: Payload{Data, make([]byte, 10)}}, "", ""},
		"too large":    {Publication{Payload: Payload{Data, make([]byte, 11)}}, "payload", `has 11 bytes; the limit of namespace "default" is 10`},
		"json":         {Publication{Payload: Payload{JSON, []byte(`{"a":1}`)}}, "", ""},
		"no json":      {Publication{Payload: Payload{JSON, []byte(`{"a":`)}}, "raw_json", "JSON"},
		"two values":   {Publication{Payload: Payload{JSON, []byte(`1 2`)}}, "raw_json", "JSON"},
		"bad utf-8":    {Publication{Payload: Payload{JSON, []byte("\"\xff\"")}}, "raw_json", "UTF-8"},
		"bad text":     {Publication{Payload: Payload{Text, []byte("\xff")}}, "text", "UTF-8"},
		"event":        {Publication{Event: strings.Repeat("x", 65)}, "event", "the limit is 64"},
		"message id":   {Publication{MessageID: strings.Repeat("x", 129)}, "message_id", "the limit is 128"},
		"control":      {Publication{MessageID: "a\tb"}, "message_id", "control"},
		"ttl":          {Publication{TTL: time.Millisecond}, "ttl", "at least 1s"},
		"negative ttl": {Publication{TTL: -time.Hour}, "ttl", "at least 1s"},
		"exclude":      {Publication{ExcludeUser: strings.Repeat("x", 129)}, "exclude_user", "the limit is 128"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.p.Check(&policy)
			if test.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := AsError(err); err == nil || e.Kind != Invalid || e.Field != test.field || !strings.Contains(e.Msg, test.want) {
				t.Errorf("got %v, want field %q and the words %q", err, test.field, test.want)
			}
		})
	}
}

func TestJSONDepth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		`1`: 0, `"[[["`: 0, `"\\"`: 0, `["\"[["]`: 1, `[{"a":[1]},[2]]`: 3, `["\\",[1]]`: 2,
	} {
		if got := JSONDepth([]byte(text)); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
	policy := DefaultPolicy()
	for depth, refused := range map[int]bool{MaxJSONDepth: false, MaxJSONDepth + 1: true} {
		p := Publication{Payload: Payload{JSON, []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))}}
		if err := p.Check(&policy); (err != nil) != refused {
			t.Errorf("depth %d: %v", depth, err)
		}
	}
}

func TestAsError(t *testing.T) {
	t.Parallel()
	own := Invalidf(ReasonInvalidTTL, "ttl", "is odd")
	if got := AsError(fmt.Errorf("wrapped: %w", own)); got != own {
		t.Errorf("got %v", got)
	}
	foreign := errors.New("secret detail")
	if got := AsError(foreign); got.Kind != Internal || strings.Contains(got.Msg, "secret") || !errors.Is(got, foreign) {
		t.Errorf("got %+v", got)
	}
}

func TestMessageKeepsItsBodyOutOfLogs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := &Message{Room: "a", ID: "e.1.z", Payload: Payload{Text, []byte("secret")}}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "message", m)
	if got := out.String(); strings.Contains(got, "secret") || !strings.Contains(got, "e.1.z") {
		t.Errorf("logged %s", got)
	}
}
