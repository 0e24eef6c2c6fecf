package client

import "time"

// Event is what a [Subscription] tells, in the order in which it happened: a
// [Delivery], [Gap], [Subscribed], [Unsubscribed] or [StateChange]. More kinds may come
// with later versions; a switch should ignore those that it does not know.
type Event interface{ isEvent() }

// Delivery is one message of a room.
type Delivery struct {
	Room     string
	ID       string // opaque; in a stored room valid as [RoomConfig.After]
	Event    string // the publisher's word; may be empty
	Body     Body
	Time     time.Time // when the log stored it; in an ephemeral room, when it was published
	Replayed bool      // it is older than this connection's subscription
	Raw      []byte    // the frame as it came: {"message":{…}}
}

// Gap says that messages of a room may be missing after a position.
type Gap struct {
	Room     string
	After    string // the last position before the gap; may be empty
	Reason   string // [GapTruncated], [GapReset] or [GapOverflow]
	Position string // where the subscription stands now, valid as [RoomConfig.After]; empty if the next message tells
}

// The reasons of gaps.
const (
	GapTruncated = "TRUNCATED" // the messages left the history, or were purged
	GapReset     = "RESET"     // the room's log is another one; or an ephemeral room after a reconnect
	GapOverflow  = "OVERFLOW"  // the room is ephemeral and the socket was too slow
)

// Subscribed says that a room's messages follow: after Subscribe, Add, each reconnect
// and each move, and without a request when the server subscribed the socket.
type Subscribed struct {
	Room     string
	Position string // where the subscription stands, valid as [RoomConfig.After]; empty in an ephemeral room
}

// Unsubscribed says that the server took the socket out of a room. No message of it
// follows, and a reconnect does not subscribe it again.
type Unsubscribed struct{ Room string }

// StateChange says how the connection fares.
type StateChange struct {
	State State

	// Of Connected and Moved: what the server calls itself, this socket and its user.
	Node, Connection, User string

	// Of Disconnected, Moved and Degraded: the machine word for why, such as DRAINING.
	Reason string

	// Of Disconnected: the cause, and how long until the next try.
	Err     error
	RetryIn time.Duration
}

// State is what a [StateChange] is about.
type State string

// The states of a connection.
const (
	Connected    State = "connected"    // the server said welcome; the rooms are being subscribed
	Moved        State = "moved"        // the server asked for another socket, which goes on where the old one was; nothing was missed
	Disconnected State = "disconnected" // or a try to connect failed; there will be another
	Degraded     State = "degraded"     // the server's bus is away; messages will be late
	Restored     State = "restored"     // the server's bus is back
)

func (Delivery) isEvent()     {}
func (Gap) isEvent()          {}
func (Subscribed) isEvent()   {}
func (Unsubscribed) isEvent() {}
func (StateChange) isEvent()  {}
