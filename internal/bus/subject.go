package bus

import "github.com/roomcast/roomcast/internal/room"

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

// encodeRoom turns a room name into one subject token and appends it: bytes outside
// A-Za-z0-9_-: become %XX. It is the only way from a name to a subject: a raw name
// could hold wildcards or be long enough to close the node's connection.
func encodeRoom(dst []byte, n room.Name) []byte {
	for i := range len(n) {
		c := n[i]
		if passes(c) {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

// partition appends the two hex digits that stand before the room in a subject, so
// that wildcards over a part of the rooms stay possible: the low byte of FNV-1a.
func partition(dst []byte, n room.Name) []byte {
	h := uint32(2166136261)
	for i := range len(n) {
		h = (h ^ uint32(n[i])) * 16777619
	}
	return append(dst, "0123456789abcdef"[h>>4&15], "0123456789abcdef"[h&15])
}

// maxSubject is room for the longest subject: a prefix, a namespace and a name whose
// every byte is escaped.
const maxSubject = 64 + 3*room.MaxNameLen

// pubSubject is where a stored room's messages are published.
func pubSubject(n room.Name, policy *room.Policy) string {
	var buf [maxSubject]byte
	b := append(buf[:0], pubPrefix...)
	b = append(b, policy.Namespace...)
	return string(roomTail(append(b, '.'), n))
}

// liveSubject is what a node with interest in a room listens to.
func liveSubject(n room.Name, policy *room.Policy) string {
	prefix := livePrefix
	if !policy.Stored() {
		prefix = ephPrefix
	}
	var buf [maxSubject]byte
	return string(roomTail(append(buf[:0], prefix...), n))
}

func roomTail(dst []byte, n room.Name) []byte {
	dst = append(partition(dst, n), '.')
	return encodeRoom(dst, n)
}

// canaryToken stands for a node where a room's partition and name stand: the encoder
// cannot produce it.
func canaryToken(node string) string {
	return string(encodeRoom([]byte{'~'}, room.Name(node)))
}

// canaryPub is where a node publishes what is no room's.
func canaryPub(namespace, node string) string { return pubPrefix + namespace + "." + canaryToken(node) }

// canaryLive is where it hears that, from all namespaces.
func canaryLive(node string) string { return livePrefix + canaryToken(node) }

// streamName names a namespace's stream.
func streamName(namespace string) string { return "RC_" + namespace }
