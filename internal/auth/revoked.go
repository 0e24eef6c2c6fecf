package auth

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// minSweep is from how many revocations on those that have run out are dropped.
const minSweep = 1024

// revoked is the tokens that are refused although they are good in all else. Users and
// ids are kept as hashes under a seed of this process: 24 bytes each, and nobody can
// choose two that collide.
type revoked struct {
	seed maphash.Seed // static

	mu     sync.RWMutex // guards what follows
	users  map[uint64]refusal
	tokens map[uint64]refusal
	sweep  int // entries at which those that have run out are dropped
}

// refusal is of tokens issued before a second, until another.
type refusal struct{ before, until int64 }

func newRevoked() revoked {
	return revoked{
		seed: maphash.MakeSeed(), users: make(map[uint64]refusal), tokens: make(map[uint64]refusal), sweep: minSweep,
	}
}

// add takes revocations in. Of two for the same tokens the stronger counts.
func (r *revoked) add(list []room.Revocation, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, revocation := range list {
		if !now.Before(revocation.Until) {
			continue
		}
		in, text := r.tokens, revocation.TokenID
		if revocation.User != "" {
			in, text = r.users, revocation.User
		}
		key := maphash.String(r.seed, text)
		known := in[key]
		in[key] = refusal{before: max(known.before, revocation.Before), until: max(known.until, revocation.Until.Unix())}
	}
	if len(r.users)+len(r.tokens) >= r.sweep {
		r.sweepLocked(now.Unix())
	}
}

func (r *revoked) sweepLocked(now int64) {
	for _, in := range []map[uint64]refusal{r.users, r.tokens} {
		for key, refusal := range in {
			if refusal.until <= now {
				delete(in, key)
			}
		}
	}
	r.sweep = max(minSweep, 2*(len(r.users)+len(r.tokens)))
}

// has reports whether a caller's token is refused. Who came without one never is.
func (r *revoked) has(c *Caller) bool {
	if c.Expires.IsZero() {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.hasLocked(r.users, c.User, c) || c.TokenID != "" && r.hasLocked(r.tokens, c.TokenID, c)
}

func (r *revoked) hasLocked(in map[uint64]refusal, text string, c *Caller) bool {
	if len(in) == 0 {
		return false
	}
	refusal, known := in[maphash.String(r.seed, text)]
	return known && c.IssuedAt.Unix() < refusal.before // without iat: long ago
}

// Revoke refuses tokens from now on: when it returns, Verify has returned the last
// caller of one, and [Verifier.Revoked] tells those that it has returned before.
func (v *Verifier) Revoke(list []room.Revocation, now time.Time) {
	v.revoked.add(list, now)
	v.good.forget(v.revoked.has)
}

// Revoked reports whether a caller's token was revoked after Verify returned it.
func (v *Verifier) Revoked(c *Caller) bool { return v.revoked.has(c) }
