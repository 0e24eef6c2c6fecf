package room

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// DefaultNamespace holds every room whose prefix names no other namespace.
const DefaultNamespace = "default"

// Slow says what becomes of a socket that cannot keep up in a stored room.
type Slow string

// The policies for slow sockets.
const (
	SlowSpill      Slow = "spill"      // refilled from the log at its own pace
	SlowDisconnect Slow = "disconnect" // closed with 4502
)

// History says what a room keeps for replay.
type History struct {
	Size     int           `yaml:"size"`      // messages a room; 0 makes rooms ephemeral
	TTL      time.Duration `yaml:"ttl"`       // age of a message
	MaxBytes int64         `yaml:"max_bytes"` // bytes a namespace, oldest first
}

// Policy is what holds for all rooms of a namespace.
type Policy struct {
	Namespace     string  `yaml:"-"`
	History       History `yaml:"history"`
	Presence      bool    `yaml:"presence"`       // members can be listed and watched
	ClientPublish bool    `yaml:"client_publish"` // sockets may publish, if their token allows it
	Slow          Slow    `yaml:"slow"`
	MaxPayload    int     `yaml:"max_payload"` // bytes of one message's body
}

// DefaultPolicy returns the policy of a namespace that configures nothing.
func DefaultPolicy() Policy {
	return Policy{
		Namespace:  DefaultNamespace,
		History:    History{Size: 1000, TTL: 24 * time.Hour, MaxBytes: 1 << 30},
		Presence:   true,
		Slow:       SlowSpill,
		MaxPayload: 64 << 10,
	}
}

// Stored reports whether rooms have a log: history.size is not 0.
func (p *Policy) Stored() bool { return p.History.Size > 0 }

// Bounds of a policy's settings.
const (
	MaxHistorySize = 10_000_000
	MinHistoryTTL  = 2 * time.Minute // the duplicate window must fit
	MaxMaxPayload  = 512 << 10       // below NATS's 1 MiB with head room
)

func (p *Policy) check() error {
	switch {
	case p.History.Size < 0 || p.History.Size > MaxHistorySize:
		return fmt.Errorf("history.size is %d; it must be 0 to %d", p.History.Size, MaxHistorySize)
	case p.History.TTL < MinHistoryTTL:
		return fmt.Errorf("history.ttl is %s; it must be at least %s", p.History.TTL, MinHistoryTTL)
	case p.History.MaxBytes < 1<<20:
		return fmt.Errorf("history.max_bytes is %d; it must be at least 1 MiB", p.History.MaxBytes)
	case p.Slow != SlowSpill && p.Slow != SlowDisconnect:
		return fmt.Errorf("slow is %q; it must be %q or %q", p.Slow, SlowSpill, SlowDisconnect)
	case p.MaxPayload < 1 || p.MaxPayload > MaxMaxPayload:
		return fmt.Errorf("max_payload is %d; it must be 1 to %d bytes", p.MaxPayload, MaxMaxPayload)
	}
	return nil
}

var namespaceRE = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// Policies finds a room's policy. It never changes once made.
type Policies struct {
	def   Policy
	named map[string]*Policy
}

// NewPolicies checks the configured namespaces. "default" need not be among them.
// Errors name the namespace and the setting.
func NewPolicies(namespaces map[string]Policy) (*Policies, error) {
	p := &Policies{def: DefaultPolicy(), named: make(map[string]*Policy, len(namespaces))}
	for ns, policy := range namespaces {
		if !namespaceRE.MatchString(ns) {
			return nil, fmt.Errorf("namespaces: %q is no namespace name; it must match %s", ns, namespaceRE)
		}
		policy.Namespace = ns
		if err := policy.check(); err != nil {
			return nil, fmt.Errorf("namespaces.%s: %w", ns, err)
		}
		if ns == DefaultNamespace {
			p.def = policy
			continue
		}
		p.named[ns] = &policy
	}
	return p, nil
}

// Of returns the policy of a room. The caller must not change it.
func (p *Policies) Of(n Name) *Policy {
	if policy, ok := p.named[n.Prefix()]; ok {
		return policy
	}
	return &p.def
}

// All returns every namespace's policy, sorted by name.
func (p *Policies) All() []Policy {
	all := []Policy{p.def}
	for _, ns := range slices.Sorted(maps.Keys(p.named)) {
		all = append(all, *p.named[ns])
	}
	slices.SortFunc(all, func(a, b Policy) int {
		if a.Namespace < b.Namespace {
			return -1
		}
		return 1
	})
	return all
}

// MaxPayload returns the largest max_payload of all namespaces, in bytes: what a
// listener must let through before the room is known.
func (p *Policies) MaxPayload() int {
	limit := p.def.MaxPayload
	for _, policy := range p.named {
		limit = max(limit, policy.MaxPayload)
	}
	return limit
}
