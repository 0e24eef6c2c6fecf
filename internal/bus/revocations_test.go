package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// learner keeps the strongest of what it has learned.
type learner struct {
	mu     sync.Mutex
	users  map[string]int64
	tokens map[string]int64
	until  time.Time // of the newest
}

// follow makes a bus follow the revocations; when it returns those that were stored
// before are learned.
func follow(t testing.TB, b testBus) *learner {
	t.Helper()
	l := &learner{users: make(map[string]int64), tokens: make(map[string]int64)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.FollowRevocations(ctx, l.learn); err != nil {
		t.Fatalf("follow revocations: %v", err)
	}
	return l
}

func (l *learner) learn(list []room.Revocation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range list {
		l.until = r.Until
		if r.User != "" {
			l.users[r.User] = max(l.users[r.User], r.Before)
		} else {
			l.tokens[r.TokenID] = max(l.tokens[r.TokenID], r.Before)
		}
	}
}

func (l *learner) user(name string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.users[name]
}

// wantUser waits until a user's revocation is learned.
func (l *learner) wantUser(t testing.TB, name string, before int64) {
	t.Helper()
	nodetest.Eventually(t, patience, fmt.Sprintf("user %q is revoked before %d", name, before), func() bool {
		return l.user(name) == before
	})
}

func revoke(t testing.TB, b testBus, list ...room.Revocation) {
	t.Helper()
	for _, r := range list {
		if err := tryRevoke(t, b, r); err != nil {
			t.Fatalf("revoke: %v", err)
		}
	}
}

// tryRevoke revokes again while that is unavailable, as callers are told to: others may
// have been faster ten times. It may be called from any goroutine.
func tryRevoke(t testing.TB, b testBus, r room.Revocation) error {
	t.Helper()
	for began := time.Now(); ; {
		err := b.Revoke(t.Context(), r)
		if err == nil || room.AsError(err).Kind != room.Unavailable || time.Since(began) > patience {
			return err
		}
	}
}

func TestRevocationsReachEveryNode(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	a, b := open(t, nats.URL), open(t, nats.URL)
	first, second := follow(t, a), follow(t, b)
	odd := strings.Repeat("ä*. >", 18) // any text may be a user
	revoke(t, a, room.Revocation{User: "ann", Before: 7}, room.Revocation{User: odd, Before: 8},
		room.Revocation{TokenID: "ann", Before: room.AnyTime})
	for _, l := range []*learner{first, second} {
		l.wantUser(t, "ann", 7)
		l.wantUser(t, odd, 8)
		nodetest.Eventually(t, patience, "token ann is revoked", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.tokens["ann"] == room.AnyTime
		})
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if life := time.Until(first.until); life < auth.MaxLifetime || life > auth.MaxLifetime+2*time.Hour {
		t.Errorf("it is kept for %s, want a little more than the longest life of a token: %s", life, auth.MaxLifetime)
	}
}

// TestRevocationsBeforeServing: who starts later, or anew, has learned all of them
// when FollowRevocations returns.
func TestRevocationsBeforeServing(t *testing.T) {
	t.Parallel()
	const users = 1100 // more than are read at a time
	nats := nodetest.StartNATS(t)
	a := open(t, nats.URL)
	follow(t, a)
	var revoking sync.WaitGroup
	for part := range 20 {
		revoking.Go(func() {
			for i := part; i < users; i += 20 {
				if err := tryRevoke(t, a, room.Revocation{User: fmt.Sprint("u", i), Before: int64(i) + 1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	revoking.Wait()
	revoke(t, a, room.Revocation{User: "u5", Before: 100}, room.Revocation{User: "u5", Before: 50})
	late := follow(t, open(t, nats.URL))
	for i := range users {
		want := int64(i) + 1
		if i == 5 {
			want = 100 // the weaker one that came last has not replaced the stronger
		}
		if got := late.user(fmt.Sprint("u", i)); got != want {
			t.Fatalf("user u%d is revoked before %d, want %d", i, got, want)
		}
	}
}

// TestRevokeTheSameAtOnce: of revocations for one user from several nodes the strongest
// stays.
func TestRevokeTheSameAtOnce(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	buses := []testBus{open(t, nats.URL), open(t, nats.URL), open(t, nats.URL)}
	follow(t, buses[0])
	var revoking sync.WaitGroup
	for i, b := range buses {
		revoking.Go(func() {
			for k := range 10 {
				if err := tryRevoke(t, b, room.Revocation{User: "ann", Before: int64(10*i + k + 1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	revoking.Wait()
	if got := follow(t, open(t, nats.URL)).user("ann"); got != 30 {
		t.Errorf("stored is %d, want the strongest: 30", got)
	}
}

// TestRevocationsThatWereLost: what NATS does not bring a node it finds in the stream.
func TestRevocationsThatWereLost(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	deaf := nodetest.StartProxy(t, nats.URL, "rc.ctl.revoked.", 1)
	a, b := open(t, nats.URL), open(t, deaf.URL)
	follow(t, a)
	l := follow(t, b)
	revoke(t, a, room.Revocation{User: "ann", Before: 7})
	l.wantUser(t, "ann", 7)
	nodetest.Eventually(t, patience, "it is lost on the way, else this proves nothing", func() bool { return deaf.Dropped.Load() > 0 })
}

func TestRevokeWithNATSAway(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	a, b := open(t, nats.URL), open(t, nats.URL)
	follow(t, a)
	l := follow(t, b)
	nats.Stop()
	err := a.Revoke(t.Context(), room.Revocation{User: "ann", Before: 7})
	if e := room.AsError(err); e.Kind != room.Unavailable || e.Reason != room.ReasonBusUnavailable {
		t.Errorf("got %v, want it to be unavailable", err)
	}
	nats.Start()
	nodetest.Eventually(t, patience, "tokens can be revoked again", func() bool {
		return a.Revoke(t.Context(), room.Revocation{User: "ann", Before: 8}) == nil
	})
	l.wantUser(t, "ann", 8)
}

// TestRevocationStreamIsGone: it is made again, and nodes say so while they cannot read it.
func TestRevocationStreamIsGone(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	b := open(t, nats.URL)
	l := follow(t, b)
	revoke(t, b, room.Revocation{User: "ann", Before: 7}, room.Revocation{User: "bob", Before: 7})
	js, err := jetstream.New(nats.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), "RC__REVOCATIONS"); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, patience, "the stream is there again", func() bool {
		return b.Revoke(t.Context(), room.Revocation{User: "eve", Before: 9}) == nil
	})
	l.wantUser(t, "eve", 9)
	nodetest.Eventually(t, patience, "it is ready", func() bool { return len(b.Ready(t.Context())) == 0 })
}

func TestNotReadyWithoutRevocations(t *testing.T) {
	t.Parallel()
	nats := nodetest.StartNATS(t)
	b := open(t, nats.URL)
	follow(t, b)
	js, err := jetstream.New(nats.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	// A stream that takes its subjects keeps it from being made again.
	nodetest.Eventually(t, patience, "such a stream is there", func() bool { // the node may be faster
		_ = js.DeleteStream(t.Context(), "RC__REVOCATIONS")
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"rc.revoked.>"}})
		return err == nil
	})
	nodetest.Eventually(t, patience, "the node says that it cannot read them", func() bool {
		return slices.ContainsFunc(b.Ready(t.Context()), func(s string) bool { return strings.Contains(s, "revoked tokens") })
	})
}
