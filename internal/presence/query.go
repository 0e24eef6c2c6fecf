package presence

import (
	"cmp"
	"context"
	"maps"
	"slices"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// Count is how many sockets and distinct users are meant.
type Count struct {
	Connections, Users int
	Attendance
}

// Count counts who is in a room.
func (p *Presence) Count(ctx context.Context, name room.Name) Count {
	var t tally
	a := ask(ctx, p, kindCount, &busv1.CountQuestion{Room: string(name)}, func(_ string, c *busv1.Count) { t.merge(c) })
	return Count{Connections: t.connections, Users: t.distinct(), Attendance: a}
}

// Receipt counts who was in a room, and is not the excluded user, when its node took a
// message in. id is the message's; empty in an ephemeral room, where those count who are
// there when the question comes. It answers within the deadline.
func (p *Presence) Receipt(ctx context.Context, name room.Name, id, excluded string) Count {
	var t tally
	q := &busv1.ReceiptQuestion{Room: string(name), Id: id, ExcludeUser: excluded}
	a := ask(ctx, p, kindReceipt, q, func(_ string, c *busv1.Count) { t.merge(c) })
	return Count{Connections: t.connections, Users: t.distinct(), Attendance: a}
}

// MemberPage is a page of a room's members.
type MemberPage struct {
	Members []room.Member // sorted by user and connection
	More    bool
	Attendance
}

// Members lists a room's members after one, of which user and connection count, at most
// limit. As members are sorted, one that stays is in exactly one page of a walk.
func (p *Presence) Members(ctx context.Context, name room.Name, after room.Member, limit int) MemberPage {
	page := firsts[room.Member]{limit: limit + 1, compare: compareMembers}
	a := ask(ctx, p, kindMembers, &busv1.MembersQuestion{
		Room: string(name), AfterUser: after.User, AfterConnection: after.Connection,
		Limit: uint32(limit + 1), //nolint:gosec // a page
	}, func(node string, part *busv1.Members) {
		for _, m := range part.GetMembers() {
			page.add(memberOf(node, m))
		}
	})
	list := page.sorted()
	return MemberPage{Members: list[:min(limit, len(list))], More: len(list) > limit, Attendance: a}
}

// RoomCount is a room with its counts.
type RoomCount struct {
	Name               room.Name
	Connections, Users int
}

// RoomPage is a page of rooms.
type RoomPage struct {
	Rooms []RoomCount // sorted by name
	More  bool
	Last  room.Name // the next page begins after it
	Attendance
}

// RoomsQuery says which rooms to list.
type RoomsQuery struct {
	Prefix   string    // of their names
	Patterns []string  // that may be seen, as in a token
	After    room.Name // the page begins after it
	Limit    int
}

// Rooms lists the rooms that have sockets.
func (p *Presence) Rooms(ctx context.Context, q RoomsQuery) RoomPage {
	counts := make(map[room.Name]*tally)
	a := ask(ctx, p, kindRooms, &busv1.RoomsQuestion{
		Prefix: q.Prefix, After: string(q.After), Patterns: q.Patterns,
		Limit: uint32(q.Limit + 1), //nolint:gosec // a page
	}, func(_ string, part *busv1.Rooms) {
		for _, r := range part.GetRooms() {
			t := counts[room.Name(r.GetRoom())]
			if t == nil {
				t = &tally{}
				counts[room.Name(r.GetRoom())] = t
			}
			t.merge(r.GetCount())
		}
	})
	page := RoomPage{Attendance: a, More: len(counts) > q.Limit}
	names := slices.Sorted(maps.Keys(counts))
	for _, name := range names[:min(q.Limit, len(names))] {
		page.Last = name
		if t := counts[name]; t.connections > 0 { // else the last one has just gone
			page.Rooms = append(page.Rooms, RoomCount{Name: name, Connections: t.connections, Users: t.distinct()})
		}
	}
	return page
}

// NodeRoom is a room as a node has it.
type NodeRoom struct {
	Node              string
	Head              string // the newest position that it has taken in
	Connections, Slow int
}

// Explanation is how nodes serve a room.
type Explanation struct {
	Nodes []NodeRoom // sorted by name; those that have members there
	Attendance
}

// Explain tells how nodes serve a room.
func (p *Presence) Explain(ctx context.Context, name room.Name) Explanation {
	var e Explanation
	e.Attendance = ask(ctx, p, kindExplain, &busv1.ExplainQuestion{Room: string(name)}, func(node string, part *busv1.NodeRoom) {
		e.Nodes = append(e.Nodes, NodeRoom{
			Node: node, Head: part.GetHead(), Connections: int(part.GetConnections()), Slow: int(part.GetSlow()),
		})
	})
	slices.SortFunc(e.Nodes, func(a, b NodeRoom) int { return cmp.Compare(a.Node, b.Node) })
	return e
}

// NodeFacts is a node and what it tells of itself.
type NodeFacts struct {
	Node
	Version            string
	Connections, Rooms int
	NotReady           []string
}

// Nodes lists the live nodes, sorted by name. One that does not answer is among them,
// and that is why it is not ready.
func (p *Presence) Nodes(ctx context.Context) []NodeFacts {
	told := make(map[string]*busv1.NodeFacts)
	a := ask(ctx, p, kindNode, &busv1.NodeQuestion{}, func(node string, part *busv1.NodeFacts) { told[node] = part })
	var list []NodeFacts
	for _, n := range p.cfg.Asker.Nodes() {
		facts := told[n.Name]
		f := NodeFacts{
			Node: n, Version: facts.GetVersion(), Connections: int(facts.GetConnections()), Rooms: int(facts.GetRooms()),
			NotReady: facts.GetNotReady(),
		}
		if facts == nil || slices.Contains(a.Missing, n.Name) {
			f.NotReady = []string{"it does not answer"}
		}
		list = append(list, f)
	}
	return list
}

// Brief is who is in a room now as [Presence.WatchBriefly] begins.
func (p *Presence) Brief(ctx context.Context, name room.Name) *Event {
	page := p.Members(ctx, name, room.Member{}, BriefMembers)
	e := &Event{Kind: Snapshot, Room: name, Members: page.Members, Attendance: page.Attendance}
	if page.More {
		all := p.Count(ctx, name)
		e.Connections, e.Users = all.Connections, all.Users
		for _, node := range all.Missing {
			e.lacks(node)
		}
		e.Complete = e.Complete && all.Complete
		return e
	}
	var t tally
	for _, m := range page.Members {
		t.add(m.User)
	}
	e.Connections, e.Users = t.connections, t.distinct()
	return e
}
