package room

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of names and words that users choose, in bytes.
const (
	MaxNameLen      = 200
	MaxEventLen     = 64
	MaxMessageIDLen = 128
	MaxUserLen      = 128
)

// UserPrefix begins the name of a user's personal room: user:<id>.
const UserPrefix = "user:"

// Name is a room name that [ParseName] has accepted: 1 to 200 bytes of valid UTF-8
// without control characters and without '*'.
type Name string

// ParseName checks a room name from outside. The error is of kind [Invalid] and
// names the limit; field is the caller's name for the value, such as "room".
func ParseName(s, field string) (Name, error) {
	switch {
	case s == "":
		return "", Invalidf(ReasonInvalidRoom, field, "is empty; a room name is 1 to %d bytes", MaxNameLen)
	case len(s) > MaxNameLen:
		return "", Invalidf(ReasonInvalidRoom, field, "has %d bytes; the limit is %d", len(s), MaxNameLen)
	case strings.Contains(s, "*"):
		return "", Invalidf(ReasonInvalidRoom, field, "contains '*', which only patterns may")
	case s[0] == '_':
		return "", Invalidf(ReasonInvalidRoom, field, "begins with '_', which is Roomcast's own")
	}
	if msg := checkText(s); msg != "" {
		return "", Invalidf(ReasonInvalidRoom, field, "%s", msg)
	}
	return Name(s), nil
}

// CheckUser checks a user name: a token's sub, or exclude_user. Empty is allowed.
func CheckUser(s, field string) error {
	if len(s) > MaxUserLen {
		return Invalidf(ReasonInvalidUser, field, "has %d bytes; the limit is %d", len(s), MaxUserLen)
	}
	if msg := checkText(s); msg != "" {
		return Invalidf(ReasonInvalidUser, field, "%s", msg)
	}
	return nil
}

// Prefix returns the part before the first ':', which may name a namespace; empty
// if there is no ':'.
func (n Name) Prefix() string {
	prefix, _, found := strings.Cut(string(n), ":")
	if !found {
		return ""
	}
	return prefix
}

// checkText says what is wrong with a text that must be printable UTF-8, or "".
func checkText(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for i, r := range s {
		if unicode.IsControl(r) {
			return fmt.Sprintf("contains the control character %U at byte %d", r, i)
		}
	}
	return ""
}
