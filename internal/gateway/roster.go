package gateway

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// roster is the open sockets: all by connection, and those that have a user in a list
// of that user's, which runs through the sessions themselves.
type roster struct {
	mu     sync.Mutex // guards what follows, and sessions' links
	byID   map[string]*session
	byUser map[string]*session // the first of each list
}

// links are a session's place in its user's list.
type links struct{ before, after *session }

func newRoster() roster {
	return roster{byID: make(map[string]*session), byUser: make(map[string]*session)}
}

// identify makes a caller the session's, and lists it under its user.
func (r *roster) identify(s *session, caller *auth.Caller) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := s.caller.Load()
	if before != nil && before.User == caller.User {
		s.caller.Store(caller)
		return
	}
	if before != nil {
		r.unlistLocked(s, before.User)
	}
	s.caller.Store(caller)
	if first := r.byUser[caller.User]; first != nil {
		s.links.after, first.links.before = first, s
	}
	r.byUser[caller.User] = s
}

func (r *roster) unlistLocked(s *session, user string) {
	before, after := s.links.before, s.links.after
	s.links = links{}
	if after != nil {
		after.links.before = before
	}
	switch {
	case before != nil:
		before.links.after = after
	case after != nil:
		r.byUser[user] = after
	default:
		delete(r.byUser, user)
	}
}

func (r *roster) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, s.id)
	if caller := s.caller.Load(); caller != nil {
		r.unlistLocked(s, caller.User)
	}
}

// all returns every open socket, also those that nobody knows the user of yet.
func (r *roster) all() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*session, 0, len(r.byID))
	for _, s := range r.byID {
		list = append(list, s)
	}
	return list
}

// of returns a user's sockets.
func (r *roster) of(user string) []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*session
	for s := r.byUser[user]; s != nil; s = s.links.after {
		list = append(list, s)
	}
	return list
}

// get returns the socket of a connection; nil if it is not here.
func (r *roster) get(connection string) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[connection]
}

// Session is an open socket at one moment.
type Session struct {
	Connection string
	User       string
	Remote     string // the peer's address, trusted proxies' headers considered
	Connected  time.Time
	Rooms      []room.Name // sorted
}

// SessionsAfter returns the open sockets of a user, or of all users if it is empty, sorted
// by user and connection: those that follow a user and connection, in a room if one is
// named, and at most limit. more says that others follow. Sockets that have not
// authenticated yet, or are closing, are not among them.
func (g *Gateway) SessionsAfter(afterUser, afterConnection, user string, in room.Name, limit int) (list []Session, more bool) {
	sessions := g.roster.of(user)
	if user == "" {
		sessions = g.roster.all()
	}
	after := listed{afterUser, afterConnection, nil}
	var first []listed // no more than twice the page, so that a page of many sorts few
	for _, s := range sessions {
		at := listed{s.User(), s.id, s}
		if at.user == "" || s.out.closing() || at.compare(after) <= 0 {
			continue
		}
		if there, _ := s.rooms.has(in); in != "" && !there {
			continue
		}
		if first = append(first, at); len(first)/2 > limit {
			slices.SortFunc(first, listed.compare)
			first = first[:limit+1]
		}
	}
	slices.SortFunc(first, listed.compare)
	if more = len(first) > limit; more {
		first = first[:limit]
	}
	for _, at := range first {
		s := at.session
		list = append(list, Session{
			Connection: s.id, User: at.user, Remote: s.remote, Connected: g.began.Add(time.Duration(s.since)), Rooms: s.rooms.names(),
		})
	}
	return list, more
}

// listed is where a session stands in a list.
type listed struct {
	user, connection string
	session          *session
}

func (p listed) compare(q listed) int {
	return cmp.Or(cmp.Compare(p.user, q.user), cmp.Compare(p.connection, q.connection))
}
