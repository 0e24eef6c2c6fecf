package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/roomcast/roomcast/internal/room"
)

// policyField is one key below namespaces.NAME: how to read and print it.
type policyField struct {
	key  string // sections joined by dots
	help string
	set  func(p *room.Policy, text string) error
	get  func(p *room.Policy) string
}

// policyFields lists every key that a namespace may have, in the order in which
// they are documented.
func policyFields() []policyField {
	return []policyField{
		{
			"history.size", "Messages kept for replay, per room; 0 makes rooms ephemeral.",
			func(p *room.Policy, text string) (err error) { p.History.Size, err = strconv.Atoi(text); return err },
			func(p *room.Policy) string { return strconv.Itoa(p.History.Size) },
		},
		{
			"history.ttl", "How long a message is kept; at least 2m.",
			func(p *room.Policy, text string) (err error) {
				p.History.TTL, err = time.ParseDuration(text)
				return err
			},
			func(p *room.Policy) string { return formatDuration(p.History.TTL) },
		},
		{
			"history.max_bytes", "Bytes kept, per namespace, oldest first; such as 512MiB.",
			func(p *room.Policy, text string) (err error) { p.History.MaxBytes, err = parseBytes(text); return err },
			func(p *room.Policy) string { return formatBytes(p.History.MaxBytes) },
		},
		{
			"presence", "Members can be listed, joins and leaves can be watched.",
			func(p *room.Policy, text string) (err error) { p.Presence, err = strconv.ParseBool(text); return err },
			func(p *room.Policy) string { return strconv.FormatBool(p.Presence) },
		},
		{
			"client_publish", "Sockets whose token allows it may publish.",
			func(p *room.Policy, text string) (err error) {
				p.ClientPublish, err = strconv.ParseBool(text)
				return err
			},
			func(p *room.Policy) string { return strconv.FormatBool(p.ClientPublish) },
		},
		{
			"slow", "What becomes of a slow socket: spill (refilled from the log) or disconnect (4502).",
			func(p *room.Policy, text string) error { p.Slow = room.Slow(text); return nil },
			func(p *room.Policy) string { return string(p.Slow) },
		},
		{
			"max_payload", "Largest body of a message; such as 64KiB.",
			func(p *room.Policy, text string) error {
				n, err := parseBytes(text)
				p.MaxPayload = int(min(n, math.MaxInt32))
				return err
			},
			func(p *room.Policy) string { return formatBytes(int64(p.MaxPayload)) },
		},
	}
}

// readNamespaces reads the file's "namespaces". What a namespace leaves out is the
// default policy's.
func (f *configFile) readNamespaces(node *yaml.Node) error {
	if f.namespaces != nil {
		return f.errorf(node, "\"namespaces\" is set twice")
	}
	f.namespaces = make(map[string]room.Policy)
	if isNull(node) {
		return nil
	}
	return f.pairs(node, "namespaces", func(k, v *yaml.Node) error {
		if _, ok := f.namespaces[k.Value]; ok {
			return f.errorf(k, "namespace %q is set twice", k.Value)
		}
		policy := room.DefaultPolicy()
		policy.Namespace = k.Value
		where := "namespaces." + k.Value
		if !isNull(v) {
			if err := f.readPolicy(&policy, v, where, "", make(map[string]bool)); err != nil {
				return err
			}
		}
		if _, err := room.NewPolicies(map[string]room.Policy{k.Value: policy}); err != nil {
			return f.errorf(k, "%v", err)
		}
		f.namespaces[k.Value] = policy
		return nil
	})
}

// readPolicy reads a mapping of policy fields. section is empty or "history."; seen
// holds the keys read so far.
func (f *configFile) readPolicy(p *room.Policy, node *yaml.Node, where, section string, seen map[string]bool) error {
	fields := policyFields()
	return f.pairs(node, where, func(k, v *yaml.Node) error {
		key := section + k.Value
		if section == "" && key == "history" && v.Kind == yaml.MappingNode {
			return f.readPolicy(p, v, where+".history", "history.", seen)
		}
		i := slices.IndexFunc(fields, func(field policyField) bool { return field.key == key })
		if i < 0 {
			return f.errorf(k, "unknown setting %q%s", where+"."+k.Value, policyHint(key, section, fields))
		}
		if seen[key] {
			return f.errorf(k, "%q is set twice", where+"."+k.Value)
		}
		seen[key] = true
		switch {
		case isNull(v):
			return nil
		case v.Kind != yaml.ScalarNode:
			return f.errorf(v, "%q must be a plain value", where+"."+k.Value)
		}
		if err := fields[i].set(p, v.Value); err != nil {
			return f.errorf(v, "%q: %v", where+"."+k.Value, err)
		}
		return nil
	})
}

// policyHint lists what may stand in a section.
func policyHint(key, section string, fields []policyField) string {
	if key == "history" {
		return "; it must be a mapping"
	}
	var known []string
	for _, field := range fields {
		name, ok := strings.CutPrefix(field.key, section)
		if name, _, nested := strings.Cut(name, "."); ok && (!nested || !slices.Contains(known, name)) {
			known = append(known, name)
		}
	}
	return "; known are " + strings.Join(known, ", ")
}

// byteUnits are the units of sizes, largest first, as formatBytes prefers them.
func byteUnits() []struct {
	name string
	size int64
} {
	return []struct {
		name string
		size int64
	}{
		{"TiB", 1 << 40},
		{"GiB", 1 << 30},
		{"MiB", 1 << 20},
		{"KiB", 1 << 10},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"KB", 1e3},
		{"B", 1},
	}
}

// parseBytes reads a size: a whole number of bytes, or of a unit such as KiB, MiB,
// GiB (powers of 1024) or kB, MB, GB (powers of 1000).
func parseBytes(text string) (int64, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range byteUnits() {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is no size; write bytes or a unit, such as 65536, 64KiB or 1GiB", text)
	}
	return n * unit, nil
}

// formatBytes is the shortest exact form that parseBytes reads.
func formatBytes(n int64) string {
	for _, u := range byteUnits()[:4] {
		if n > 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration is Go's form without trailing zero units: "24h", not "24h0m0s".
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
