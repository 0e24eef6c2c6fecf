package gateway

import (
	"context"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// mayPresence refuses to show who is in a room.
func (s *session) mayPresence(name room.Name) error {
	if !s.caller.Load().MayPresence(name) {
		return room.Errorf(room.Denied, room.ReasonForbidden, "the token does not allow to see who is in this room")
	}
	if policy := s.gw.cfg.Policies.Of(name); !policy.Presence {
		return room.Errorf(room.Precondition, room.ReasonNoPresence, "the room's namespace has no presence")
	}
	return nil
}

// members answers who is in a room. The reader waits for the nodes.
func (s *session) members(id uint32, r *roomcastv1.ClientFrame_Members) error {
	name, err := room.ParseName(r.GetRoom(), "members.room")
	if err != nil {
		return err
	}
	if err := s.mayPresence(name); err != nil {
		return err
	}
	var list *presence.Event
	s.hold(func() {
		s.out.whileOpen(func(ctx context.Context) { list = s.gw.cfg.Presence.Brief(ctx, name) })
	})
	s.reply(presence.MembersFrame(id, list))
	return nil
}

// tellPresence queues an event of a room that the socket watches. While the peer does
// not read it is not taken: half of the queue stays for answers. It is called with the
// watched room's lock held.
func (s *session) tellPresence(e *presence.Event) bool {
	if s.out.halfFull() {
		return false
	}
	s.pushControl(e.Frame(s.format))
	return true
}

// watchLocked begins or ends to watch a room that the socket is in: as it asked last.
// The rooms' lock is held.
func (s *session) watchLocked(name room.Name, wanted bool) {
	s.rooms.unwatchLocked(name)
	if !wanted {
		return
	}
	if s.rooms.watches == nil {
		s.rooms.watches = make(map[room.Name]*presence.Watch)
	}
	s.rooms.watches[name] = s.gw.cfg.Presence.WatchBriefly(name, s.tellPresence)
}

// unwatchLocked ends the watch of a room, if there is one, and reports whether there
// was: nothing of it follows. The lock is held.
func (r *rooms) unwatchLocked(name room.Name) bool {
	w := r.watches[name]
	if w == nil {
		return false
	}
	w.Stop()
	delete(r.watches, name)
	return true
}

// recheckPresence ends the watches that a newer token does not allow, and says so.
func (s *session) recheckPresence() {
	for _, name := range s.rooms.names() {
		err := s.mayPresence(name)
		if err == nil {
			continue
		}
		s.rooms.mu.Lock()
		ended := s.rooms.unwatchLocked(name)
		s.rooms.mu.Unlock()
		if ended {
			s.answer(0, err)
		}
	}
}

// renamed tells who watches the socket's rooms that its user is another one now.
func (r *rooms) renamed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.allLocked() {
		c.Renamed()
	}
}
