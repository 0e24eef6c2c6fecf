// Package hub holds the rooms of this node and the cursors of its sockets: for each
// room the tail of its log in a ring, and for each subscriber the place up to which
// it has been served. A message is kept once, as finished frame bytes, however many
// sockets are to get it; there is no queue per socket.
//
// Work is scheduled per room, not per socket. A room keeps its cursors in parts, one
// a [Lane]; a part with news is queued once, and a walk over it gives each cursor all
// that it is behind by. A cursor that cannot go along (its socket is full, its place
// has left the ring, it resumes) leaves the walk and gets turns of its own until it
// is current again. Nothing here touches the network or waits for a subscriber; what
// has left the ring is read by a bounded pool and shared.
//
// Who owns what: a cursor's place belongs to the goroutine of its lane, from Start
// on. Everything else of a room is guarded by its lock, the pages by the shelf's.
//
// Lock order: Hub.mu, Room.mu, then the shelf's. [Subscriber.Behind] and a lane's
// wake are called with Room.mu held, so the locks of those who implement them come
// after it and must never be held while calling into this package.
package hub
