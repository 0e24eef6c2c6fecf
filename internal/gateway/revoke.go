package gateway

import (
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// maxTallies is how many revocations the gateway remembers the count of.
const maxTallies = 256

// tally counts the sockets that each of the newest revocations has closed. A node may
// learn of one by two ways at once; who asks for the count must not get nothing because
// the other way was faster.
type tally struct {
	mu     sync.Mutex // guards what follows
	closed map[tokens]int
	order  []tokens
}

// tokens is what a revocation is about.
type tokens struct {
	user, id string
	before   int64
}

// addLocked adds to a revocation's count and returns it. The lock is held.
func (t *tally) addLocked(key tokens, closed int) int {
	if t.closed == nil {
		t.closed = make(map[tokens]int)
	}
	if _, known := t.closed[key]; !known {
		if len(t.order) == maxTallies {
			delete(t.closed, t.order[0])
			t.order = t.order[1:]
		}
		t.order = append(t.order, key)
	}
	t.closed[key] += closed
	return t.closed[key]
}

// Revoke refuses tokens from now on and closes the sockets that they have opened, with
// 4401. When it returns those are in no room any more. It returns how many sockets the
// last revocation of the list has closed, now and when it came before.
func (g *Gateway) Revoke(list []room.Revocation) (closed int) {
	g.cfg.Verifier.Revoke(list, time.Now())
	g.revoked.mu.Lock() // who finds nothing left to close waits for the other's count
	defer g.revoked.mu.Unlock()
	byID := g.closeByID(list)
	for _, r := range list {
		count := byID[r.TokenID]
		if r.User != "" {
			count = 0
			for _, s := range g.roster.of(r.User) {
				if s.cutRevoked() {
					count++
				}
			}
		}
		closed = g.revoked.addLocked(tokens{user: r.User, id: r.TokenID, before: r.Before}, count)
	}
	return closed
}

// closeByID closes the sockets of the token ids in a list and counts them. There is no
// index of ids: it looks at every socket once.
func (g *Gateway) closeByID(list []room.Revocation) map[string]int {
	ids := make(map[string]int)
	for _, r := range list {
		if r.TokenID != "" {
			ids[r.TokenID] = 0
		}
	}
	if len(ids) == 0 {
		return nil
	}
	for _, s := range g.roster.all() {
		caller := s.caller.Load()
		if caller == nil || caller.TokenID == "" {
			continue
		}
		if count, meant := ids[caller.TokenID]; meant && s.cutRevoked() {
			ids[caller.TokenID] = count + 1
		}
	}
	return ids
}

// cutRevoked ends a socket whose token is revoked, and reports whether it did.
func (s *session) cutRevoked() bool {
	return s.gw.cfg.Verifier.Revoked(s.caller.Load()) && s.cut(closeRevoked)
}

// identify makes a caller the session's. It reports false if the token was revoked since
// it was verified, which ends the session: who revokes looks through the roster, and
// this looks once the session stands there.
func (s *session) identify(caller *auth.Caller) bool {
	s.gw.roster.identify(s, caller)
	return !s.cutRevoked()
}
