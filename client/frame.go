package client

import (
	"encoding/json"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
)

// subprotocol is the one that this client speaks: text frames in the canonical JSON
// mapping of proto/roomcast/v1/socket.proto, except that a message's JSON is inline.
// protojson cannot be used for that: it would read numbers as doubles.
const subprotocol = "roomcast.v1.json"

// clientFrame is a ClientFrame.
type clientFrame struct {
	ID          uint32          `json:"id,omitempty"`
	Subscribe   *subscribeFrame `json:"subscribe,omitempty"`
	Unsubscribe *roomFrame      `json:"unsubscribe,omitempty"`
	Auth        *authFrame      `json:"auth,omitempty"`
}

type subscribeFrame struct {
	Room  string `json:"room"`
	After string `json:"after,omitempty"`
}

type roomFrame struct {
	Room string `json:"room"`
}

type authFrame struct {
	Token string `json:"token"`
}

// serverFrame is a ServerFrame. Frames that are missing here are ignored.
type serverFrame struct {
	ID            uint32              `json:"id"`
	Welcome       *welcomeFrame       `json:"welcome"`
	Subscribed    *subscribedFrame    `json:"subscribed"`
	Unsubscribed  *roomFrame          `json:"unsubscribed"`
	Message       *messageFrame       `json:"message"`
	Gap           *gapFrame           `json:"gap"`
	Authenticated *authenticatedFrame `json:"authenticated"`
	Error         *errorFrame         `json:"error"`
	Reconnect     *reconnectFrame     `json:"reconnect"`
	Degraded      *reasonFrame        `json:"degraded"`
	Restored      *struct{}           `json:"restored"`
}

type welcomeFrame struct {
	Connection string `json:"connection"`
	User       string `json:"user"`
	Node       string `json:"node"`
	PingMs     uint32 `json:"pingMs"`
}

type subscribedFrame struct {
	Room     string `json:"room"`
	Position string `json:"position"`
}

type messageFrame struct {
	Room     string          `json:"room"`
	ID       string          `json:"id"`
	Event    string          `json:"event"`
	JSON     json.RawMessage `json:"json"`
	Text     string          `json:"text"`
	Data     []byte          `json:"data"`
	Time     time.Time       `json:"time"`
	Replayed bool            `json:"replayed"`
}

type gapFrame struct {
	Room     string `json:"room"`
	After    string `json:"after"`
	Reason   string `json:"reason"`
	Position string `json:"position"`
}

type authenticatedFrame struct {
	Expires time.Time `json:"expires"`
}

type errorFrame struct {
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Field   string `json:"field"`
	RetryMs uint32 `json:"retryMs"`
}

type reconnectFrame struct {
	WithinMs uint32 `json:"withinMs"`
	Reason   string `json:"reason"`
}

type reasonFrame struct {
	Reason string `json:"reason"`
}

// delivery is the message for the consumer, with the frame that it came in.
func (f *messageFrame) delivery(raw []byte) Delivery {
	d := Delivery{
		Room:     f.Room,
		ID:       f.ID,
		Event:    f.Event,
		Time:     f.Time,
		Replayed: f.Replayed,
		Raw:      raw,
	}
	switch {
	case f.JSON != nil:
		d.Body = RawJSON(f.JSON)
	case f.Data != nil:
		d.Body = Data(f.Data)
	default:
		d.Body = Text(f.Text)
	}
	return d
}

// toError is the refusal in the words of gRPC.
func (f *errorFrame) toError() *Error {
	e := &Error{
		Code:       codes.Unknown,
		Reason:     f.Reason,
		Message:    f.Message,
		Field:      f.Field,
		RetryAfter: time.Duration(f.RetryMs) * time.Millisecond,
	}
	var code codes.Code
	if code.UnmarshalJSON([]byte(strconv.Quote(f.Code))) == nil {
		e.Code = code
	}
	return e
}
