package presence

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// EventKind says what an event is.
type EventKind uint8

// The kinds of events.
const (
	Snapshot  EventKind = iota // who is there
	Join                       // a member came
	Leave                      // a member went
	Occupancy                  // a large room's counts, in place of joins and leaves
)

// Event is one event of a watched room. It is shared by those who listen.
type Event struct {
	Kind   EventKind
	Room   room.Name
	Member room.Member      // of a join or a leave
	Reason room.LeaveReason // of a leave

	Members            []room.Member // of a snapshot
	Connections, Users int           // in all, after the event
	Attendance                       // of a snapshot

	frames [wire.Formats][]byte // made when first needed; guarded by the watched room's lock
}

// Frame returns the event as a socket's finished frame, which must not be changed. It is
// for those whom a [Watch] tells, while it does.
func (e *Event) Frame(f wire.Format) []byte {
	if e.frames[f] == nil {
		e.frames[f] = wire.ServerFrame(f, e.serverFrame())
	}
	return e.frames[f]
}

func (e *Event) serverFrame() *roomcastv1.ServerFrame {
	member := &roomcastv1.ServerFrame_Presence{
		Room: string(e.Room), User: e.Member.User, Connection: e.Member.Connection, Reason: string(e.Reason),
	}
	switch e.Kind {
	case Join:
		return &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Join{Join: member}}
	case Leave:
		return &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Leave{Leave: member}}
	case Occupancy:
		return &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Occupancy_{Occupancy: &roomcastv1.ServerFrame_Occupancy{
			Room: string(e.Room), Connections: uint32(e.Connections), Users: uint32(e.Users), //nolint:gosec // counts
		}}}
	case Snapshot:
	}
	return MembersFrame(0, e)
}

// MembersFrame is a snapshot as the answer to a socket's request, or without id.
func MembersFrame(id uint32, e *Event) *roomcastv1.ServerFrame {
	list := &roomcastv1.ServerFrame_MembersList{
		Room: string(e.Room), Connections: uint32(e.Connections), Users: uint32(e.Users), //nolint:gosec // counts
		Complete: e.Complete, MissingNodes: e.Missing,
	}
	for _, m := range e.Members {
		list.Members = append(list.Members, MemberProto(m))
	}
	return &roomcastv1.ServerFrame{Id: id, Frame: &roomcastv1.ServerFrame_Members{Members: list}}
}

// MemberProto is a member as callers and sockets see it.
func MemberProto(m room.Member) *roomcastv1.Member {
	return &roomcastv1.Member{User: m.User, Connection: m.Connection, Node: m.Node, Since: timestamppb.New(m.Since)}
}
