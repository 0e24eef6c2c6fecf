package api

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// A page token is base64url of: a version byte, a hash of the request's other fields,
// and the text of the position that the page goes on from. It is opaque and not a
// secret: it gives no right that the request itself does not have.
const (
	pageVersion   = 1
	pageHashLen   = 8
	maxTokenBytes = 256
)

// pageToken returns the token of the page after last.
func pageToken(req *roomcastv1.ListMessagesRequest, last room.Position) string {
	b := append([]byte{pageVersion}, pageHash(req)...)
	return base64.RawURLEncoding.EncodeToString(append(b, last.String()...))
}

// parsePageToken returns the position in a request's token. The error is of kind
// Invalid if it is none of ours or was made for a request with other fields.
func parsePageToken(req *roomcastv1.ListMessagesRequest) (room.Position, error) {
	refuse := func(why string) (room.Position, error) {
		return room.Position{}, room.Invalidf(room.ReasonInvalidPage, "page_token", "%s", why)
	}
	const foreign = "is no token of a page"
	token := req.GetPageToken()
	if len(token) > maxTokenBytes {
		return refuse(foreign)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= 1+pageHashLen || b[0] != pageVersion {
		return refuse(foreign)
	}
	if !strings.HasPrefix(string(b[1:]), string(pageHash(req))) {
		return refuse("belongs to a request with other fields; change nothing but page_size")
	}
	last, err := room.ParsePosition(string(b[1+pageHashLen:]), "page_token")
	if err != nil {
		return refuse(foreign)
	}
	return last, nil
}

// pageHash covers the fields that decide which messages are listed and how. page_size
// is not among them: it may change from page to page (AIP-158).
func pageHash(req *roomcastv1.ListMessagesRequest) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %t %t %q",
		req.GetRoom(), req.GetAfter(), req.GetRaw(), req.GetNewestFirst(), req.GetBefore()))
	return sum[:pageHashLen]
}
