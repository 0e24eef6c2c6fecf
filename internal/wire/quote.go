package wire

import (
	"bytes"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// separator is the first byte of U+2028 and U+2029, and of much else.
const separator = 0xE2

// escapeGrowth says how many bytes an escape adds to the one that it begins at; 0
// means that the byte stands for itself.
//
//nolint:gochecknoglobals // a table
var escapeGrowth = [256]uint8{
	5, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 5, 1, 1, 5, 5, // \b, \t, \n, \f and \r are short
	5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5,
	'"': 1, '\\': 1, separator: 3,
}

// appendQuoted appends s as a JSON string, RFC 8259 §7. U+2028 and U+2029 are
// escaped so that the text is JavaScript too; '<', '>' and '&' are not. Bytes that
// are no UTF-8 become U+FFFD, one for each run of them.
func appendQuoted[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := len(dst)
	clean := 0 // s[clean:i] needs no escape and is not appended yet
	for i := 0; i < len(s); i++ {
		c := s[i]
		if escapeGrowth[c] == 0 {
			continue
		}
		switch {
		case c != separator:
			dst = appendEscape(append(dst, s[clean:i]...), c)
			clean = i + 1
		case i+2 < len(s) && s[i+1] == 0x80 && s[i+2]&^1 == 0xA8:
			dst = append(append(dst, s[clean:i]...), `\u202`...)
			dst = append(dst, hexDigits[s[i+2]&0xF])
			i += 2
			clean = i + 1
		}
	}
	dst = append(dst, s[clean:]...)
	if !utf8.Valid(dst[start:]) {
		dst = append(dst[:start], bytes.ToValidUTF8(dst[start:], []byte("\uFFFD"))...)
	}
	return append(dst, '"')
}

// quotedLen returns how long s is as a JSON string without its quotes, or a little
// more.
func quotedLen(s []byte) int {
	n := len(s)
	for _, c := range s {
		n += int(escapeGrowth[c])
	}
	return n
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
	}
}

// maxTime is the longest time that [appendTime] writes, without quotes.
const maxTime = "2006-01-02T15:04:05.000000000Z"

// appendTime appends t as protobuf JSON prints a Timestamp: RFC 3339 in UTC with
// 0, 3, 6 or 9 digits of a second.
func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano) // no zeros at the end of the fraction
	dst = dst[:len(dst)-len("Z")]
	for n := len(dst) - start - len("2006-01-02T15:04:05."); n > 0 && n%3 != 0; n++ {
		dst = append(dst, '0')
	}
	return append(dst, 'Z', '"')
}
