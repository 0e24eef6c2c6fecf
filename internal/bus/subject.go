package bus

import (
	"hash/fnv"
	"strings"

	"github.com/roomcast/roomcast/internal/room"
)

// Subjects (docs/design.md §7). Interest does not depend on the namespace, so live
// and ephemeral subjects do not carry it.
const (
	pubPrefix  = "rc.pub."
	livePrefix = "rc.live."
	ephPrefix  = "rc.eph."
)

const hexDigits = "0123456789ABCDEF"

// passes reports whether a byte of a room name may stand in a subject as it is.
func passes(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '_' || c == '-' || c == ':'
}

// encodeRoom turns a room name into one subject token: bytes outside
// A-Za-z0-9_-: become %XX. It is the only way from a name to a subject: a raw name
// could hold wildcards or be long enough to close the node's connection.
func encodeRoom(n room.Name) string {
	escaped := 0
	for i := range len(n) {
		if !passes(n[i]) {
			escaped++
		}
	}
	if escaped == 0 {
		return string(n)
	}
	var b strings.Builder
	b.Grow(len(n) + 2*escaped)
	for i := range len(n) {
		c := n[i]
		if passes(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

// partition returns the two hex digits that stand before the room in a subject, so
// that wildcards over a part of the rooms stay possible.
func partition(n room.Name) string {
	h := fnv.New32a()
	h.Write([]byte(n)) // never fails
	c := byte(h.Sum32() & 0xff)
	return strings.ToLower(string([]byte{hexDigits[c>>4], hexDigits[c&15]}))
}

// subjects are a room's names on NATS.
type subjects struct {
	pub  string // stored messages are published here; empty in an ephemeral room
	live string // what a node with interest listens to
}

func subjectsOf(n room.Name, policy *room.Policy) subjects {
	tail := partition(n) + "." + encodeRoom(n)
	if !policy.Stored() {
		return subjects{live: ephPrefix + tail}
	}
	return subjects{pub: pubPrefix + policy.Namespace + "." + tail, live: livePrefix + tail}
}

// streamName names a namespace's stream.
func streamName(namespace string) string { return "RC_" + namespace }
