package presence

import (
	"cmp"
	"slices"

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
// once, and no name travels. It is FNV-1a.
func userHash(user string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(user) {
		h = (h ^ uint64(user[i])) * 1099511628211
	}
	return h
}

// tally counts sockets and distinct users.
type tally struct {
	connections int
	users       []uint64 // their hashes, some more than once
}

func (t *tally) add(user string) {
	t.connections++
	t.users = append(t.users, userHash(user))
}

// merge takes what another node has counted.
func (t *tally) merge(c *busv1.Count) {
	t.connections += int(c.GetConnections())
	t.users = append(t.users, c.GetUsers()...)
}

// distinct leaves each user once, and says how many they are. To sort is cheaper than a
// map, and a map of hashes would grow again and again.
func (t *tally) distinct() int {
	slices.Sort(t.users)
	t.users = slices.Compact(t.users)
	return len(t.users)
}

// parts calls send with the tally in parts of at most partBytes; at least once.
func (t *tally) parts(send func(*busv1.Count)) {
	t.distinct()
	part := &busv1.Count{Connections: uint32(t.connections)} //nolint:gosec // a node has fewer
	for users := range slices.Chunk(t.users, partBytes/8) {
		if part.Users != nil {
			send(part)
			part = &busv1.Count{}
		}
		part.Users = users
	}
	send(part)
}
