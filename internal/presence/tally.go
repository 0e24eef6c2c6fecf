package presence

import (
	"cmp"
	"hash/fnv"
	"maps"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
)

// partBytes is about how large a part of an answer becomes; the bus takes 64 KiB.
const partBytes = 48 << 10

// chunks sends a list in parts.
type chunks[T any] struct {
	limit int // bytes of a part; 0 = partBytes
	send  func([]T)
	list  []T
	bytes int
}

// add appends an item of about so many bytes.
func (c *chunks[T]) add(item T, bytes int) {
	if c.bytes+bytes > cmp.Or(c.limit, partBytes) {
		c.flush()
	}
	c.list, c.bytes = append(c.list, item), c.bytes+bytes
}

// flush sends what is left.
func (c *chunks[T]) flush() {
	if len(c.list) > 0 {
		c.send(c.list)
	}
	c.list, c.bytes = nil, 0
}

// userHash stands for a user where users are counted: who is on several nodes counts
// once, and no name travels.
func userHash(user string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(user)) // never fails
	return h.Sum64()
}

// tally counts sockets and distinct users.
type tally struct {
	connections int
	users       map[uint64]struct{}
}

func (t *tally) add(user string) {
	t.connections++
	t.hash(userHash(user))
}

func (t *tally) hash(user uint64) {
	if t.users == nil {
		t.users = make(map[uint64]struct{})
	}
	t.users[user] = struct{}{}
}

// merge takes what another node has counted.
func (t *tally) merge(c *busv1.Count) {
	t.connections += int(c.GetConnections())
	for _, user := range c.GetUsers() {
		t.hash(user)
	}
}

// parts calls send with the tally in parts of at most partBytes; at least once.
func (t *tally) parts(send func(*busv1.Count)) {
	part := &busv1.Count{Connections: uint32(t.connections)} //nolint:gosec // a node has fewer
	for user := range maps.Keys(t.users) {
		if len(part.Users) == partBytes/8 {
			send(part)
			part = &busv1.Count{}
		}
		part.Users = append(part.Users, user)
	}
	send(part)
}
