package room

import "time"

// Member is one socket that is in a room.
type Member struct {
	User       string
	Connection string    // unique in the cluster
	Node       string    // that holds the socket; empty where it goes without saying
	Since      time.Time // when it subscribed, by that node's clock, to a tenth of a second
}

// LeaveReason says why a member went.
type LeaveReason string

// The reasons of leaves.
const (
	Unsubscribed LeaveReason = "UNSUBSCRIBED" // it, or the server for it, left the room
	Closed       LeaveReason = "CLOSED"       // its socket ended
	NodeLost     LeaveReason = "NODE_LOST"    // its node is not heard any more
)
