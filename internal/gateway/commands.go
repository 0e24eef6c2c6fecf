package gateway

import (
	"context"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// Target says which sockets are meant: one of the three is set.
type Target struct {
	User       string
	Connection string
	Room       room.Name
}

// sockets returns those of a target that are here.
func (g *Gateway) sockets(t Target) []*session {
	switch {
	case t.User != "":
		return g.roster.of(t.User)
	case t.Connection != "":
		if s := g.roster.get(t.Connection); s != nil {
			return []*session{s}
		}
		return nil
	}
	var list []*session
	for _, s := range g.roster.all() {
		if in, _ := s.rooms.has(t.Room); in {
			list = append(list, s)
		}
	}
	return list
}

// Disconnect closes sockets with 4403 and a word of the caller's, and returns how many.
// When it returns they are in no room any more.
func (g *Gateway) Disconnect(t Target, word string) (closed int) {
	for _, s := range g.sockets(t) {
		if s.cut(closeDisconnected(word)) {
			closed++
		}
	}
	return closed
}

// Subscribe subscribes a user's sockets to a room, whatever their tokens allow, and
// returns how many: those that are in the room already are not counted, and stay where
// they are. It waits for the room's place in the log until ctx ends or the time by has
// come; what has no room by then is left out.
func (g *Gateway) Subscribe(ctx context.Context, by time.Time, user string, name room.Name) (subscribed int) {
	for _, s := range g.roster.of(user) {
		if s.enrol(ctx, by, name) {
			subscribed++
		}
	}
	return subscribed
}

// Unsubscribe takes a user's sockets out of a room, and returns how many.
func (g *Gateway) Unsubscribe(user string, name room.Name) (unsubscribed int) {
	for _, s := range g.roster.of(user) {
		if s.leave(0, name) {
			unsubscribed++
		}
	}
	return unsubscribed
}

// enrol subscribes the socket at the server's wish. It reports false if the socket is
// in the room already, has too many or is closing.
func (s *session) enrol(ctx context.Context, by time.Time, name room.Name) bool {
	if s.rooms.give(name) {
		return false
	}
	c, pos, err := s.gw.cfg.Hub.Join(ctx, by, name, room.Position{}, s)
	if err != nil {
		s.log().Warn("subscribe from the server", "room", name, "err", err)
		return false
	}
	r := &s.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.getLocked(name) != nil
	if in || s.out.closing() || r.lenLocked() >= maxRooms {
		c.Leave()
		if in {
			r.giveLocked(name)
		}
		return false
	}
	r.giveLocked(name)
	s.beginLocked(0, c, pos)
	return true
}
