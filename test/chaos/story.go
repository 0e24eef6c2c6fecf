package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Story is what was recorded of one run.
type Story struct {
	Log          Log
	Sockets      [][]Event // what each socket saw, in its order
	Publications []Publish
}

// Log is the log as it is at the end.
type Log struct {
	Rooms map[string][]Entry       // in the log's order
	Epoch func(room string) string // the identity of the room's log
	Keeps func(room string) int    // how many messages the room keeps for replay
}

// Entry is one message of the log.
type Entry struct {
	ID   string
	Text string // of the body
}

// Publish is one publication: a message id, sent until it was acknowledged.
type Publish struct {
	Room, Text, MessageID string
	Began                 time.Duration // since the run began
	Attempts              int
	Call                  int    // the batch or stream that it was acknowledged in; 0 is none
	Duplicate             bool   // as it was answered
	ID                    string // as it was answered; empty: never acknowledged
}

// Kind is what an event is.
type Kind string

// The kinds of events. Asked and Closed are what the socket did, or what befell it, for
// people; the others are frames.
const (
	Connected    Kind = "connected"
	Closed       Kind = "closed"
	Asked        Kind = "asked"
	Left         Kind = "left"
	Subscribed   Kind = "subscribed"
	Unsubscribed Kind = "unsubscribed"
	Message      Kind = "message"
	Gap          Kind = "gap"
	Other        Kind = "other" // errors, degraded, restored
)

// Event is one thing that a socket saw or did.
type Event struct {
	At   time.Duration // since the run began
	Kind Kind
	Room string
	ID   string // of a message; the position of asked, subscribed and gap
	Text string // of a message; the reason of a gap; for people otherwise
}

func (e Event) String() string {
	return fmt.Sprintf("%9.3fs %-12s %-10s %-28s %s", e.At.Seconds(), e.Kind, e.Room, e.ID, e.Text)
}

// place is a position taken apart: <epoch>.<seq>.<check>, where a moment without a
// message has no check.
type place struct {
	epoch string
	seq   uint64
	check string
}

func parsePlace(position string) (place, error) {
	parts := strings.Split(position, ".")
	if len(parts) != 3 {
		return place{}, fmt.Errorf("%q is no position", position)
	}
	seq, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return place{}, fmt.Errorf("%q is no position: %w", position, err)
	}
	return place{epoch: parts[0], seq: seq, check: parts[2]}, nil
}
