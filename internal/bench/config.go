package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// Mode is how messages are published.
type Mode string

// The ways to publish that the control API has.
const (
	Unary  Mode = "unary"  // one call a message, many at once
	Batch  Mode = "batch"  // many messages a call
	Stream Mode = "stream" // one stream for all
)

// Format is how the sockets' frames are written.
type Format string

// The formats that a node serves, by the last part of their subprotocol's name.
const (
	JSON     Format = "json"
	Protobuf Format = "protobuf"
)

// subprotocol is the name that a socket offers.
func (f Format) subprotocol() string { return "roomcast.v1." + string(f) }

// Limits of a load.
const (
	maxInFlight = 1 << 15    // what a stamp can number
	maxPayload  = 512 << 10  // bytes; the largest max_payload that a node takes
	maxBatch    = 1000       // messages of one call
	maxRate     = 10_000_000 // messages/s
	maxDuration = time.Hour  // a stamp has no numbers for more

	// maxStall is below the 10 s after which a node closes a socket that takes nothing:
	// what its kernel has taken by then it takes for reading.
	maxStall = 9 * time.Second
)

// Load is what one set of sockets and publishers does.
type Load struct {
	Rooms      int     // messages go to them in turn
	Sockets    int     // in all, spread evenly over the rooms
	Stalled    int     // further sockets, which stop reading for a while; InFlight and Rate know nothing of them
	RoomPrefix string  // of the rooms' names, namespace included; a number follows
	InFlight   int     // messages whose last delivery is not there yet, at most
	Publishers int     // concurrent calls or streams; 0 = as many as InFlight allows, one stream
	Batch      int     // messages of one call in mode Batch, at most; 0 = 100
	Mode       Mode    // empty = Unary
	Rate       float64 // messages/s; 0 = as fast as InFlight allows
	Payload    int     // bytes of a message's text
}

// Config is one measurement.
type Config struct {
	URLs       []string                         // public listeners; the sockets are spread over them in turn
	Token      string                           // for the sockets; empty = none
	TokenOf    func(socket int) (string, error) // a token for each instead; nil = all have Token
	TLS        *tls.Config                      // for wss
	Format     Format                           // empty = JSON
	Load       Load
	ProbeRate  float64       // messages/s to a room with one socket, measured alone and beside the load; 0 = no probe
	Idle       time.Duration // between the last socket and the warm-up, without a message; reported if there is any
	Warmup     time.Duration // load before the measurement begins
	Duration   time.Duration // of the measurement
	Stall      time.Duration // for how long Load.Stalled sockets read nothing, from the begin of the measurement
	Patience   time.Duration // after the last publish, for what is still under way; 0 = 30 s
	ServerPIDs []int         // processes whose processor time and memory are reported
	AdminAddr  string        // of a node whose heap is reported around a stall; empty = not
	Progress   func(Status)  // told a few times a second, by one goroutine; nil = not told
}

// Status is how far a run is.
type Status struct {
	Phase     Phase
	Connected int           // sockets that have subscribed
	Sockets   int           // of how many
	Elapsed   time.Duration // since the phase began
	Rate      float64       // deliveries/s lately
	Problems  int64         // errors until now
}

// Phase is what a run is doing.
type Phase string

// The phases, in their order.
const (
	Connecting Phase = "connecting"
	Idling     Phase = "idle"
	Alone      Phase = "probe alone"
	Warming    Phase = "warming up"
	Measuring  Phase = "measuring"
	Draining   Phase = "waiting for the last deliveries"
)

const defaultPatience = 30 * time.Second

// normalize fills in defaults and refuses what cannot be run.
func (c *Config) normalize() error {
	if len(c.URLs) == 0 {
		return errors.New("no URL")
	}
	if c.Format == "" {
		c.Format = JSON
	}
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	if c.Duration <= 0 || c.Warmup < 0 || c.Idle < 0 {
		return errors.New("the duration must be more than 0, the warm-up and the idle time not less")
	}
	if c.Idle+c.Warmup+c.Duration > maxDuration {
		return fmt.Errorf("a run takes at most %s", maxDuration)
	}
	if c.Load.Stalled > 0 && (c.Stall <= 0 || c.Stall > min(maxStall, c.Duration)) {
		return fmt.Errorf("a stall must end within the measurement and last at most %s: a node closes sockets that take nothing for 10s", maxStall)
	}
	if c.ProbeRate < 0 || c.ProbeRate > maxRate {
		return errors.New("the probe's rate must be 0 or more")
	}
	return c.Load.normalize()
}

func (l *Load) normalize() error {
	if l.Mode == "" {
		l.Mode = Unary
	}
	if l.Batch == 0 {
		l.Batch = 100
	}
	switch {
	case !slices.Contains([]Mode{Unary, Batch, Stream}, l.Mode):
		return fmt.Errorf("no mode %q", l.Mode)
	case l.Rooms < 1 || l.Sockets < l.Rooms:
		return errors.New("there must be a room and at least as many sockets as rooms: a message without a socket has no last delivery")
	case l.Stalled < 0:
		return errors.New("the sockets that stall must be 0 or more")
	case l.InFlight < 1 || l.InFlight > maxInFlight:
		return fmt.Errorf("in flight must be 1 to %d", maxInFlight)
	case l.Batch < 1 || l.Batch > maxBatch:
		return fmt.Errorf("a batch must have 1 to %d messages", maxBatch)
	case l.Payload < stampSize || l.Payload > maxPayload:
		return fmt.Errorf("the payload must be %d to %d bytes: it carries when it was sent and its number", stampSize, maxPayload)
	case l.Rate < 0 || l.Rate > maxRate:
		return fmt.Errorf("the rate must be 0 to %d", maxRate)
	case l.Publishers < 0 || l.Publishers > maxInFlight:
		return fmt.Errorf("publishers must be 0 to %d", maxInFlight)
	}
	if strings.ContainsAny(l.RoomPrefix, `"\<>&`) {
		return errors.New("the room prefix must need no escape in JSON")
	}
	if _, err := room.ParseName(l.room(l.Rooms-1), "room"); err != nil {
		return fmt.Errorf("room prefix: %w", err)
	}
	if l.Publishers == 0 {
		l.Publishers = l.defaultPublishers()
	}
	return nil
}

// defaultPublishers is how many calls at once the window can keep busy.
func (l *Load) defaultPublishers() int {
	switch l.Mode {
	case Batch:
		return max(1, l.InFlight/l.Batch)
	case Stream:
		return 1
	default:
		return l.InFlight
	}
}

// ordered reports whether each room's messages are published one after the other, so
// that a socket must see them in the order of their numbers. Calls that overlap are
// stored in any order.
func (l *Load) ordered() bool { return l.Publishers == 1 }

// room names the i-th room.
func (l *Load) room(i int) string { return fmt.Sprintf("%s%d", l.RoomPrefix, i) }
