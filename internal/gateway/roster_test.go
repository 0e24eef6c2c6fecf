package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/roomcast/roomcast/internal/room"
)

// sessions are the open sockets of a user, or of all.
func (w *world) sessions(user string) []Session {
	list, _ := w.gw.SessionsAfter("", "", user, "", 100)
	return list
}

// wantSessions compares the open sockets of a user, or of all, but for what is another
// one each time.
func (w *world) wantSessions(user string, want ...Session) {
	w.t.Helper()
	got := w.sessions(user)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Session{}, "Connection", "Remote", "Connected"), cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("sockets of %q (-want +got):\n%s", user, diff)
	}
	for _, s := range got {
		if found := w.gw.roster.get(s.Connection); found == nil || found.User() != s.User || !s.Connected.Equal(w.gw.began.Add(time.Duration(found.since))) {
			w.t.Errorf("connection %q of %q is not found by its id", s.Connection, s.User)
		}
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		silent := w.dial("", "") // has no user yet
		var ann [3]*peer
		for i := range ann {
			ann[i] = w.dial("", token(t, "ann", time.Hour, "a", "b"))
			ann[i].want("welcome ann")
		}
		bob := w.dial("", token(t, "bob", time.Hour, "a"))
		bob.want("welcome bob")
		for _, name := range []string{"b", "a"} {
			ann[1].ask(`{"id":1,"subscribe":{"room":"`+name+`"}}`, `{"id":1,"subscribed":{"room":"`+name+`","position":"@10"}}`)
		}
		ann[1].ask(`{"id":1,"subscribe":{"room":"b"}}`, `{"id":1,"subscribed":{"room":"b","position":"@10"}}`)
		in := 0
		for _, s := range w.sessions("ann") {
			in += len(s.Rooms)
		}
		if in != 2 {
			t.Errorf("ann's sockets are in %d rooms, want 2", in)
		}
		ann[1].ask(`{"id":1,"unsubscribe":{"room":"b"}}`, `{"id":1,"unsubscribed":{"room":"b"}}`)
		w.wantSessions("bob", Session{User: "bob"})
		w.wantSessions("eve")
		for _, i := range []int{0, 2} { // the ends of her list
			_ = ann[i].ws.Close()
			elapse(closeGrace)
		}
		w.wantSessions("ann", Session{User: "ann", Rooms: []room.Name{"a"}})
		w.wantSessions("", Session{User: "ann", Rooms: []room.Name{"a"}}, Session{User: "bob"})
		_ = ann[1].ws.Close()
		elapse(closeGrace)
		w.wantSessions("", Session{User: "bob"})
		silent.send(authFrame(token(t, "eve", time.Hour)))
		silent.want("welcome eve", authenticated(time.Hour))
		w.wantSessions("eve", Session{User: "eve"})
	})
}

// TestSessionsFollowTheUser: a guest who becomes a user is found under that user only.
func TestSessionsFollowTheUser(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		peers := []*peer{w.guest(""), w.guest(""), w.guest("")}
		peers[1].send(authFrame(token(w.t, "ann", time.Minute)))
		peers[1].want(authenticated(time.Minute))
		w.wantSessions("guest", Session{User: "guest"}, Session{User: "guest"})
		w.wantSessions("ann", Session{User: "ann"})
	})
	inBubble(t, guests, func(w *world) {
		p := w.guest("")
		p.send(authFrame(token(w.t, "ann", time.Minute)))
		p.want(authenticated(time.Minute))
		w.wantSessions("guest")
		w.wantSessions("", Session{User: "ann"})
	})
}
