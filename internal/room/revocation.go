package room

import (
	"math"
	"time"
)

// Revocation refuses tokens that were issued before a moment: all of a user, or those
// with one id.
type Revocation struct {
	User    string // a token's sub; empty: TokenID counts
	TokenID string // a token's jti

	// Before is the moment, in Unix seconds: a token whose iat is smaller is refused, and
	// so is one without iat. [AnyTime] refuses them all.
	Before int64

	Until time.Time // from when on it may be forgotten, because no such token lives any more
}

// AnyTime is the Before of a revocation that does not ask when a token was issued.
const AnyTime = math.MaxInt64

// BeforeTime is the Before of tokens that were issued before t. Tokens tell whole
// seconds, so all of a second that t lies in count as issued before.
func BeforeTime(t time.Time) int64 {
	before := t.Unix()
	if t.Nanosecond() > 0 {
		before++
	}
	return before
}
