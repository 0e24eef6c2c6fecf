package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// A page token is base64url of: a version byte, a hash of the request's other fields,
// and the text that the page goes on from: the last item of the page before. It is
// opaque and not a secret: it gives no right that the request itself does not have.
const (
	pageVersion   = 1
	pageHashLen   = 8
	maxTokenBytes = 512
)

// newPageToken returns the token of the page after last.
func newPageToken(hash []byte, last string) string {
	b := append([]byte{pageVersion}, hash...)
	return base64.RawURLEncoding.EncodeToString(append(b, last...))
}

// foreignToken refuses a token that this program has not made.
func foreignToken() error {
	return room.Invalidf(room.ReasonInvalidPage, "page_token", "is no token of a page")
}

// readPageToken returns what a token goes on from. The error is of kind Invalid if it is
// none of ours or was made for a request with other fields.
func readPageToken(token string, hash []byte) (last string, err error) {
	if len(token) > maxTokenBytes {
		return "", foreignToken()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= 1+pageHashLen || b[0] != pageVersion {
		return "", foreignToken()
	}
	if !bytes.Equal(b[1:1+pageHashLen], hash) {
		return "", room.Invalidf(room.ReasonInvalidPage, "page_token",
			"belongs to a request with other fields; change nothing but page_size")
	}
	return string(b[1+pageHashLen:]), nil
}

// pageHash covers the fields that decide what is listed and how. page_size is not among
// them: it may change from page to page (AIP-158).
func pageHash(format string, fields ...any) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, format, fields...))
	return sum[:pageHashLen]
}

// pageToken returns the token of the page of messages after last.
func pageToken(req *roomcastv1.ListMessagesRequest, last room.Position) string {
	return newPageToken(messagesHash(req), last.String())
}

// parsePageToken returns the position in a request's token.
func parsePageToken(req *roomcastv1.ListMessagesRequest) (room.Position, error) {
	text, err := readPageToken(req.GetPageToken(), messagesHash(req))
	if err != nil {
		return room.Position{}, err
	}
	last, err := room.ParsePosition(text, "page_token")
	if err != nil {
		return room.Position{}, foreignToken()
	}
	return last, nil
}

func messagesHash(req *roomcastv1.ListMessagesRequest) []byte {
	return pageHash("%q %q %t %t %q", req.GetRoom(), req.GetAfter(), req.GetRaw(), req.GetNewestFirst(), req.GetBefore())
}
