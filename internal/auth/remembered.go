package auth

import (
	"sync"
	"time"
)

// maxRemembered bounds one generation of [remembered], in bytes of tokens: some
// 2,000 tokens of a usual size. A grant takes a few times the bytes that it has in its
// token, so this bounds the callers too.
const maxRemembered = 512 << 10

// remembered keeps tokens that were found good, so that a token which comes with every
// call is decoded and its signature checked once. Only the whole token finds its entry,
// and the clock is asked again each time.
//
// It has two generations. A full one becomes the old one, whose entries are forgotten
// with the next change unless they were used since. Tokens that are not good are not
// kept: whoever sends them cannot push out others.
type remembered struct {
	mu    sync.Mutex
	young map[string]*verdict // guarded by mu
	old   map[string]*verdict // guarded by mu
	bytes int                 // guarded by mu: of tokens in young
}

// verdict is a token that was found good.
type verdict struct {
	token  string // a copy: what is passed around may be a part of something large
	claims claims // those that the clock judges
	caller *Caller
}

// find returns the caller of a token that was found good before and is good now; nil
// sends the caller of find to look at the token itself.
func (r *remembered) find(token string, now time.Time) *Caller {
	r.mu.Lock()
	v := r.young[token]
	if v == nil {
		if v = r.old[token]; v != nil {
			r.putLocked(v)
		}
	}
	r.mu.Unlock()
	if v == nil || len(v.claims.judge(now)) > 0 {
		return nil
	}
	return v.caller
}

// keep remembers a token that was found good, unless it is refused by now. It reports
// whether it is not.
func (r *remembered) keep(v *verdict, refused func(*Caller) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refused(v.caller) { // asked under the lock: what is refused later, forget finds
		return false
	}
	r.putLocked(v)
	return true
}

// forget drops the tokens that are refused.
func (r *remembered) forget(refused func(*Caller) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, v := range r.young {
		if refused(v.caller) {
			delete(r.young, token)
			r.bytes -= len(token)
		}
	}
	for token, v := range r.old {
		if refused(v.caller) {
			delete(r.old, token)
		}
	}
}

func (r *remembered) putLocked(v *verdict) {
	if _, has := r.young[v.token]; has {
		return // two calls have verified it at once
	}
	if r.young == nil || r.bytes+len(v.token) > maxRemembered {
		r.old, r.young, r.bytes = r.young, make(map[string]*verdict), 0
	}
	r.young[v.token] = v
	r.bytes += len(v.token)
}
