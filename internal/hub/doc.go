// Package hub holds the rooms of this node and the cursors of its sockets: for each
// room the tail of its log in a ring, and for each subscriber the place up to which
// it has been served. A message is kept once, as finished frame bytes, however many
// sockets are to get it; there is no queue per socket.
//
// Nothing here touches the network or waits for a subscriber.
//
// Lock order: Hub.mu before Room.mu. A room calls [Subscriber.Behind] with its lock
// held, so a subscriber's own lock comes after Room.mu and must never be held while
// calling into this package.
package hub
