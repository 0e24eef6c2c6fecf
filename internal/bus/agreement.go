package bus

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// agreement is the part of the configuration that all nodes must have in common: a
// room that is of one namespace here and of another there has two logs.
type agreement struct {
	hash     uint64
	policies []*busv1.NamespacePolicy // sorted by name
}

func newAgreement(policies *room.Policies) agreement {
	var a agreement
	h := fnv.New64a()
	for _, p := range policies.All() {
		np := &busv1.NamespacePolicy{
			Name:            p.Namespace,
			HistorySize:     int64(p.History.Size),
			HistoryTtl:      int64(p.History.TTL),
			HistoryMaxBytes: p.History.MaxBytes,
			Presence:        p.Presence,
			ClientPublish:   p.ClientPublish,
			Slow:            string(p.Slow),
			MaxPayload:      int64(p.MaxPayload),
		}
		a.policies = append(a.policies, np)
		fmt.Fprintf(h, "%s %q\n", p.Namespace, settings(np))
	}
	a.hash = max(1, h.Sum64()) // 0 is not told
	return a
}

// settings lists a policy's settings as they are named in the configuration.
func settings(p *busv1.NamespacePolicy) [][2]string {
	return [][2]string{
		{"history.size", fmt.Sprint(p.GetHistorySize())},
		{"history.ttl", time.Duration(p.GetHistoryTtl()).String()},
		{"history.max_bytes", fmt.Sprint(p.GetHistoryMaxBytes())},
		{"presence", fmt.Sprint(p.GetPresence())},
		{"client_publish", fmt.Sprint(p.GetClientPublish())},
		{"slow", p.GetSlow()},
		{"max_payload", fmt.Sprint(p.GetMaxPayload())},
	}
}

// differences says in what another node's namespaces are not ours; empty if in
// nothing. A setting that only one of the two programs knows does not count.
func (a agreement) differences(theirs []*busv1.NamespacePolicy) string {
	other := make(map[string]*busv1.NamespacePolicy, len(theirs))
	for _, p := range theirs {
		other[p.GetName()] = p
	}
	var found []string
	for _, mine := range a.policies {
		p := other[mine.GetName()]
		if p == nil {
			found = append(found, fmt.Sprintf("it does not have namespace %q", mine.GetName()))
			continue
		}
		delete(other, mine.GetName())
		there := settings(p)
		for i, s := range settings(mine) {
			if s[1] != there[i][1] {
				found = append(found, fmt.Sprintf("%s of namespace %q is %s there and %s here", s[0], mine.GetName(), there[i][1], s[1]))
			}
		}
	}
	for _, p := range theirs {
		if other[p.GetName()] != nil {
			found = append(found, fmt.Sprintf("it has namespace %q", p.GetName()))
		}
	}
	return strings.Join(found, ", ")
}
