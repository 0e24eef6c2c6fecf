package presence

import (
	"slices"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// BriefMembers is how many members a brief snapshot has at most, and how many a room may
// have for joins and leaves to be told one by one to those who listen briefly.
const BriefMembers = 500

// occupancyEvery is how often a large room's counts are told at most.
const occupancyEvery = time.Second

// listen adds a listener, who gets a snapshot once there is one.
func (r *watched) listen(l *Watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners[l] = struct{}{}
	if r.ready {
		r.offerSnapshot(l)
	}
}

// unlisten lets a listener go, and reports whether it was there.
func (r *watched) unlisten(l *Watch) (there bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, there = r.listeners[l]
	delete(r.listeners, l)
	return there
}

// tell gives an event to all who listen. The lock is held.
func (r *watched) tell(e *Event) {
	r.changed, r.snap = true, [2]*Event{}
	e.Connections, e.Users = r.count, len(r.users)
	if !r.ready {
		return
	}
	for l := range r.listeners {
		switch {
		case l.behind:
		case l.brief && (l.large || r.count > BriefMembers):
			l.large = true
		default:
			l.behind = !l.tell(e)
		}
	}
}

// serve does what is due: snapshots for those who were behind, counts for those who
// listen briefly to a large room, and the members again once it is small. The lock is
// held.
func (r *watched) serve(now time.Time) {
	due := r.changed && now.Sub(r.occupied) >= occupancyEvery
	var counts *Event
	for l := range r.listeners {
		switch {
		case l.behind, due && l.large && r.count <= BriefMembers:
			r.offerSnapshot(l)
		case due && l.large:
			if counts == nil {
				counts = &Event{Kind: Occupancy, Room: r.name, Connections: r.count, Users: len(r.users)}
			}
			l.behind = !l.tell(counts)
		}
	}
	if due {
		r.changed, r.occupied = false, now
	}
}

// offerSnapshot gives a listener who is there. The lock is held.
func (r *watched) offerSnapshot(l *Watch) {
	l.large = l.brief && r.count > BriefMembers
	l.behind = !l.tell(r.snapshot(l.brief))
}

// snapshot returns who is there. The lock is held.
func (r *watched) snapshot(brief bool) *Event {
	kind := 0
	if brief {
		kind = 1
	}
	attendance := r.attendance()
	if old := r.snap[kind]; old != nil && old.Complete == attendance.Complete && slices.Equal(old.Missing, attendance.Missing) {
		return old
	}
	members := r.brief
	if !brief {
		members = r.first(r.count)
	} else if members == nil {
		members = r.first(min(r.count, BriefMembers))
		r.brief = members
	}
	r.snap[kind] = &Event{
		Kind: Snapshot, Room: r.name, Members: members, Connections: r.count, Users: len(r.users),
		Attendance: attendance,
	}
	return r.snap[kind]
}

// first returns the first so many members. The lock is held.
func (r *watched) first(limit int) []room.Member {
	list := firsts[room.Member]{limit: limit, compare: compareMembers}
	for _, v := range r.views {
		for _, m := range v.members {
			list.add(m)
		}
	}
	return list.sorted()
}

// moved forgets the members of brief snapshots if one who comes or goes is, or should be,
// one of them: in a large room most are not, and to find them takes long. The lock is
// held.
func (r *watched) moved(m room.Member) {
	if n := len(r.brief); n < BriefMembers || compareMembers(m, r.brief[n-1]) <= 0 {
		r.brief = nil
	}
}

// attendance says whose members are known. The lock is held.
func (r *watched) attendance() Attendance {
	a := Attendance{Complete: r.whole}
	for _, node := range r.missing {
		a.lacks(node)
	}
	for node, v := range r.views {
		if v.stale {
			a.lacks(node)
		}
	}
	return a
}
