package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/roomcast/roomcast/internal/room"
)

// fault is what is wrong with a frame. Its path grows from the inside out.
type fault struct {
	path   string // of the value, relative to whoever has the fault in hand
	msg    string // goes on from the path; holds nothing of what the client sent
	broken bool   // the text is no JSON: no path can be trusted
}

// in puts the name of the member that holds the faulty value before its path.
func (f *fault) in(name string) *fault {
	if f.path == "" {
		f.path = name
	} else {
		f.path = name + "." + f.path
	}
	return f
}

func (f *fault) asError() *room.Error {
	if f.path == "" || f.broken {
		f.path = "frame"
	}
	return room.Invalidf(room.ReasonInvalidFrame, f.path, "%s", f.msg)
}

// scanner reads JSON text, RFC 8259, without recursion and without leniency.
type scanner struct {
	data []byte // valid UTF-8
	pos  int
}

func (s *scanner) broken(what string) *fault {
	return &fault{broken: true, msg: fmt.Sprintf("is not valid JSON: %s at byte %d", what, s.pos)}
}

// wrong is the fault of text that does not go on as JSON must.
func (s *scanner) wrong(what string) *fault {
	if s.pos >= len(s.data) {
		what = "unexpected end"
	}
	return s.broken(what)
}

// unexpected is the fault of a value that is not what its field wants.
func (s *scanner) unexpected(want string) *fault {
	if s.pos >= len(s.data) {
		return s.broken("unexpected end")
	}
	return &fault{msg: want}
}

// peek skips white space and returns the next byte; 0 at the end.
func (s *scanner) peek() byte {
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// end checks that nothing but white space follows.
func (s *scanner) end() *fault {
	s.peek()
	if s.pos < len(s.data) {
		return s.broken("text after the frame")
	}
	return nil
}

// skip reads c.
func (s *scanner) skip(c byte) *fault {
	if s.peek() == c {
		s.pos++
		return nil
	}
	return s.wrong("expected " + strconv.QuoteRune(rune(c)))
}

// members reads an object and calls member at the value of each of its members,
// which must read it. The name is for that call only.
func (s *scanner) members(member func(name []byte) *fault) *fault {
	if s.peek() != '{' {
		return s.unexpected("must be an object")
	}
	s.pos++
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.wrong("expected a name")
		}
		name, f := s.quoted()
		if f == nil {
			f = s.skip(':')
		}
		if f == nil {
			f = member(name)
		}
		if f != nil {
			return f
		}
		if s.peek() == '}' {
			s.pos++
			return nil
		}
		if f := s.skip(','); f != nil {
			return f
		}
	}
}

// object reads a protobuf message: no member is unknown or there twice, null means
// absent (but for "json", where it is a value). A field may also be written as
// in the proto file: message_id for messageId.
func (s *scanner) object(known []string, set func(name string) *fault) *fault {
	var seen uint64
	return s.members(func(name []byte) *fault {
		i := slices.IndexFunc(known, func(k string) bool { return isNamed(name, k) })
		if i < 0 {
			return unknown(string(name))
		}
		canonical := known[i]
		if seen&(1<<i) != 0 {
			return &fault{path: canonical, msg: "is there twice"}
		}
		seen |= 1 << i
		if canonical != "json" && s.null() {
			return nil
		}
		if f := set(canonical); f != nil {
			return f.in(canonical)
		}
		return nil
	})
}

// isNamed reports whether name is a field's canonical name, or its name in the proto
// file.
func isNamed(name []byte, canonical string) bool {
	switch string(name) {
	case "message_id":
		return canonical == "messageId"
	case "raw_json":
		return canonical == "rawJson"
	default:
		return string(name) == canonical
	}
}

// unknown names the field if it looks like one: what a client sent is shown to
// people and written to logs.
func unknown(name string) *fault {
	if len(name) == 0 || len(name) > 40 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return &fault{msg: "has an unknown field"}
	}
	return &fault{path: name, msg: "is not a known field"}
}

// null reads null if it is next.
func (s *scanner) null() bool {
	if s.peek() != 'n' || !bytes.HasPrefix(s.data[s.pos:], []byte("null")) {
		return false
	}
	s.pos += len("null")
	return true
}

// literal reads a number, true, false, or what a client took for one.
func (s *scanner) literal() []byte {
	s.peek()
	start := s.pos
	for s.pos < len(s.data) && !bytes.ContainsRune([]byte(" \t\n\r,:{}[]\""), rune(s.data[s.pos])) {
		s.pos++
	}
	return s.data[start:s.pos]
}

// raw reads one JSON value of any kind and returns its text as it stands.
func (s *scanner) raw() ([]byte, *fault) {
	s.peek()
	start := s.pos
	if f := s.skipValue(); f != nil {
		return nil, f
	}
	value := s.data[start:s.pos]
	if room.JSONDepth(value) > room.MaxJSONDepth {
		return nil, &fault{msg: fmt.Sprintf("is nested deeper than %d", room.MaxJSONDepth)}
	}
	if !json.Valid(value) {
		return nil, &fault{msg: "is not one valid JSON value"}
	}
	return value, nil
}

// skipValue finds the end of the value that is next by its brackets. It does not
// judge it.
func (s *scanner) skipValue() *fault {
	depth := 0
	s.peek()
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			if s.pos = closingQuote(s.data, s.pos); s.pos >= len(s.data) {
				return s.broken("unexpected end")
			}
			if depth == 0 {
				s.pos++
				return nil
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return nil // the end of a literal
			}
			if depth == 0 {
				s.pos++
				return nil
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return nil // the end of a literal
			}
		}
		s.pos++
	}
	return s.broken("unexpected end")
}

// closingQuote returns where the string that opens at data[open] closes; len(data)
// or more if it does not.
func closingQuote(data []byte, open int) int {
	i := open + 1
	for i < len(data) && data[i] != '"' {
		if data[i] == '\\' {
			i++
		}
		i++
	}
	return i
}

// text reads a string. A half surrogate is refused: UTF-8 cannot hold it.
func (s *scanner) text() (string, *fault) {
	text, f := s.quoted()
	return string(text), f
}

// quoted is text whose bytes may be the scanner's own.
func (s *scanner) quoted() ([]byte, *fault) {
	if s.peek() != '"' {
		return nil, s.unexpected("must be a string")
	}
	s.pos++
	start := s.pos
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return s.data[start : s.pos-1], nil
		case c == '\\':
			return s.escapedText(bytes.Clone(s.data[start:s.pos]))
		case c < ' ':
			return nil, s.broken("control character in a string")
		}
		s.pos++
	}
	return nil, s.broken("unexpected end")
}

// escapedText reads the rest of a string whose beginning is done, from the first
// escape on.
func (s *scanner) escapedText(done []byte) ([]byte, *fault) {
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			s.pos++
			return done, nil
		case c < ' ':
			return nil, s.broken("control character in a string")
		case c == '\\':
			r, ok := s.escape()
			if !ok {
				return nil, s.broken("bad escape")
			}
			done = utf8.AppendRune(done, r)
		default:
			done = append(done, c)
			s.pos++
		}
	}
	return nil, s.broken("unexpected end")
}

// escape reads one escape, or the two of a surrogate pair.
func (s *scanner) escape() (rune, bool) {
	if s.pos+1 >= len(s.data) {
		return 0, false
	}
	if i := strings.IndexByte(`"\/bfnrt`, s.data[s.pos+1]); i >= 0 {
		s.pos += 2
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	r, ok := s.hexEscape()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	low, ok := s.hexEscape()
	r = utf16.DecodeRune(r, low)
	return r, ok && r != utf8.RuneError
}

func (s *scanner) hexEscape() (rune, bool) {
	rest := s.data[s.pos:]
	if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(rest[2:6]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.pos += 6
	return rune(n), true
}
