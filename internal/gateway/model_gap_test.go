package gateway

import (
	"fmt"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// gap checks that a gap has a cause, begins where the client is and leads to where its
// room was. What is missing over it must have left the log.
func (k *checker) gap(f modelFrame, said *roomcastv1.Gap) string {
	s := k.subs[room.Name(said.GetRoom())]
	if s == nil {
		return "it is not subscribed"
	}
	reason := room.GapReason(said.GetReason())
	k.w.stats.gap(reason)
	if !s.room.policy.Stored() {
		first := s.fresh
		s.fresh = false
		switch {
		case said.GetAfter()+said.GetPosition() != "":
			return "an ephemeral room has no positions"
		case reason == room.Reset && s.needsGap && first:
			s.needsGap = false
		case reason == room.Overflow && !s.needsGap:
			s.overflow++
		default:
			return "there is no cause"
		}
		return ""
	}
	s.fresh = false
	if !s.room.caused[said.GetReason()+" "+said.GetAfter()] && !s.broke(said) && !s.cautious(said) {
		return "there is no cause"
	}
	proven := !s.needsGap
	if fault := k.gapAfter(s, f, said.GetAfter()); fault != "" {
		return fault
	}
	if reason == room.Reset {
		known := false
		for _, e := range k.heads(s.room, 0, f.begun) { // the last of those that have it
			if e.head.String() == said.GetPosition() {
				s.at, s.slack, s.needsGap, s.open, known = e.to, 0, false, false, true
			}
		}
		if known {
			return ""
		}
		return "the room never was there"
	}
	s.needsGap, s.open = false, true
	if said.GetPosition() == "" {
		return ""
	}
	to, err := room.ParsePosition(said.GetPosition(), "position")
	if err != nil || to.Epoch != s.room.epochs[s.at.epoch].name {
		return "it leads to another log"
	}
	index, back := s.place(to)
	if back && proven {
		return fmt.Sprintf("it leads back to %d from %d", index, s.at.index)
	}
	fault := k.missing(s, index, f.at, true)
	s.at.index = index
	return fault
}

// broke reports whether a gap is one that this node was told of.
func (s *modelSub) broke(said *roomcastv1.Gap) bool {
	after, err := room.ParsePosition(said.GetAfter(), "after")
	for _, b := range s.room.breaks {
		switch {
		case err != nil, string(b.reason) != said.GetReason(), after.Epoch != b.before.Epoch:
		case b.reason == room.Reset, after.Seq <= b.head.Seq:
			if said.GetPosition() == b.head.String() {
				return true
			}
		case b.head == b.before && said.GetPosition() == said.GetAfter(): // it was ahead of this node
			return true
		}
	}
	return false
}

// cautious reports whether a gap may be told without need.
func (s *modelSub) cautious(said *roomcastv1.Gap) bool {
	after, err := room.ParsePosition(said.GetAfter(), "after")
	for _, e := range s.room.epochs {
		if err == nil && e.name == after.Epoch && after.Seq < e.cautious {
			return said.GetReason() == string(room.Truncated)
		}
	}
	return false
}

// gapAfter checks where a gap begins, and moves there.
func (k *checker) gapAfter(s *modelSub, f modelFrame, text string) string {
	if s.needsGap {
		if text != s.after {
			return "it begins elsewhere than asked for"
		}
		return ""
	}
	after, err := room.ParsePosition(text, "after")
	if err != nil || after.Epoch != s.room.epochs[s.at.epoch].name {
		return "it begins in another log"
	}
	index, back := s.place(after)
	if back {
		return fmt.Sprintf("it begins at %d, before what has come, %d", index, s.at.index)
	}
	fault := k.missing(s, index, f.at, s.open)
	s.at.index = index
	return fault
}

// place is the index of a position, and whether something that the log has is between
// it and what has come: what it has lost may stand on either side of a head.
func (s *modelSub) place(pos room.Position) (index int, back bool) {
	e := s.room.epochs[s.at.epoch]
	for index = e.after(pos); index < s.at.index; index++ {
		if entry := e.entries[index]; entry.msg != nil && entry.purged.IsZero() {
			return index, true
		}
	}
	return index, false
}
