package bus

import (
	"fmt"
	"time"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// While nodes run with two configurations, such as in a rolling restart that adds a
// namespace, a room may have one log here and another there. A message stored in the one
// would be missing, silently, for who reads the other. So nobody publishes to such rooms
// until the nodes agree; publishers are told to try again.

// helloPatience is how long a starting node lets the others tell of themselves.
const helloPatience = 100 * time.Millisecond

// contests lists the namespaces whose rooms have another log, or none, at a node with
// these.
func (a agreement) contests(theirs []*busv1.NamespacePolicy) (names []string) {
	stored := func(p *busv1.NamespacePolicy) bool { return p.GetHistorySize() > 0 }
	other := make(map[string]*busv1.NamespacePolicy, len(theirs))
	for _, p := range theirs {
		other[p.GetName()] = p
	}
	for _, mine := range a.policies {
		p := other[mine.GetName()]
		if p == nil || stored(p) != stored(mine) {
			names = append(names, mine.GetName())
		}
		delete(other, mine.GetName())
	}
	for name := range other {
		names = append(names, name)
	}
	return names
}

// noteContestsLocked keeps which namespaces are contested by a live node.
func (m *members) noteContestsLocked() {
	var all map[string]bool
	for _, other := range m.others {
		for _, name := range other.contests {
			if all == nil {
				all = make(map[string]bool)
			}
			all[name] = true
		}
	}
	if all == nil {
		m.contested.Store(nil)
		return
	}
	m.contested.Store(&all)
}

// contest says why nobody may publish to a room now; nil if everybody may.
func (b *Bus) contest(n room.Name) error {
	contested := b.members.contested.Load()
	if contested == nil {
		return nil
	}
	namespace := b.cfg.Policies.Of(n).Namespace
	if !(*contested)[namespace] && !(*contested)[n.Prefix()] {
		return nil
	}
	return &room.Error{
		Kind:       room.Unavailable,
		Reason:     room.ReasonBusUnavailable,
		Msg:        fmt.Sprintf("the nodes do not agree yet about the namespace of room %q, try again with the same message id", n),
		RetryAfter: time.Second,
	}
}
