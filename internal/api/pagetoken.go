package api

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/roomcast/roomcast/internal/room"
)

// A page token is base64url of: a version byte, a hash of the request's other fields,
// and the place that the page goes on from. It is opaque and not a secret: it gives no
// right that the request itself does not have.
const (
	pageVersion   = 1
	pageHashLen   = 8
	maxTokenBytes = 512
)

// Bounds of a page.
const (
	defaultPageSize = 100
	maxPageSize     = 1000

	// maxPageBytes keeps a page below the 4 MiB that gRPC clients take by default. The
	// largest single message, a JSON array of digits as a Value, is below it too.
	maxPageBytes = 3 << 20
)

// pageFields are the fields of a request that decide what is listed and how, its method
// first. page_size is not among them: it may change from page to page (AIP-158).
type pageFields []any

// token returns the token of the page after last, which must not be empty.
func (f pageFields) token(last string) string {
	b := append([]byte{pageVersion}, f.hash()...)
	return base64.RawURLEncoding.EncodeToString(append(b, last...))
}

// parse returns the place in a token. The error is of kind Invalid if it is none of ours
// or was made for a request with other fields.
func (f pageFields) parse(token string) (last string, err error) {
	if len(token) > maxTokenBytes {
		return "", foreignPage()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= 1+pageHashLen || b[0] != pageVersion {
		return "", foreignPage()
	}
	if !strings.HasPrefix(string(b[1:]), string(f.hash())) {
		return "", room.Invalidf(room.ReasonInvalidPage, "page_token",
			"belongs to a request with other fields; change nothing but page_size")
	}
	return string(b[1+pageHashLen:]), nil
}

func (f pageFields) hash() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", f))
	return sum[:pageHashLen]
}

// foreignPage refuses a token that no answer of ours had.
func foreignPage() error {
	return room.Invalidf(room.ReasonInvalidPage, "page_token", "is no token of a page")
}

// pageSize reads page_size. More than the largest page is no error: the page is
// smaller than asked, as any page may be.
func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0:
		return 0, room.Invalidf(room.ReasonInvalidPage, "page_size", "is %d; it must be 0 to %d", asked, maxPageSize)
	case asked == 0:
		return defaultPageSize, nil
	}
	return min(int(asked), maxPageSize), nil
}
