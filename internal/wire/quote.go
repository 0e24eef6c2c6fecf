package wire

import (
	"bytes"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as a JSON string, RFC 8259 §7. U+2028 and U+2029 are
// escaped so that the text is JavaScript too; '<', '>' and '&' are not. Bytes that
// are no UTF-8 become U+FFFD.
func appendQuoted[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	clean := 0 // s[clean:i] needs no escape and is not appended yet
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == '"' || c == '\\' {
				dst = appendEscape(append(dst, s[clean:i]...), c)
				clean = i + 1
			}
			i++
			continue
		}
		// The conversion of at most 4 bytes stays on the stack.
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[clean:i]...), "\uFFFD"...)
			clean = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[clean:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xF])
			clean = i + size
		}
		i += size
	}
	return append(append(dst, s[clean:]...), '"')
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

// appendTime appends t as protobuf JSON prints a Timestamp: RFC 3339 in UTC with
// 0, 3, 6 or 9 digits of a second.
func appendTime(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.000000000")
	zeros := []byte("000")
	for range 3 {
		dst = bytes.TrimSuffix(dst, zeros)
	}
	dst = bytes.TrimSuffix(dst, []byte("."))
	return append(dst, 'Z', '"')
}
