package room

import (
	"encoding/json"
	"log/slog"
	"time"
	"unicode/utf8"
)

// PayloadKind says what a payload's bytes are.
type PayloadKind uint8

// The kinds of payload.
const (
	Text  PayloadKind = iota // valid UTF-8; the zero Payload is an empty text
	JSON                     // one JSON value
	Data                     // any bytes
	Purge                    // none: not a message but the marker of a purge; only the log and the bus know it
)

// Payload is a message's body. Its bytes are never changed once it is made.
type Payload struct {
	Kind  PayloadKind
	Bytes []byte
}

// Message is one message of a room, as the log or the bus gave it. It is shared by
// all who deliver it and never changed.
type Message struct {
	Room        Name
	ID          string   // what users see; in a stored room Position.String()
	Position    Position // zero in an ephemeral room
	Event       string
	Payload     Payload
	ExcludeUser string
	Expires     time.Time // zero = never
	Time        time.Time // when it was stored; ephemeral: published
}

// Expired reports whether the message's ttl has passed at now.
func (m *Message) Expired(now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}

// IsPurge reports whether m is the marker of a purge: what the room had stored before
// it was removed. It is never shown.
func (m *Message) IsPurge() bool { return m.Payload.Kind == Purge }

// LogValue keeps the body out of logs.
func (m *Message) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("room", string(m.Room)),
		slog.String("id", m.ID),
		slog.Int("bytes", len(m.Payload.Bytes)))
}

// MinTTL is the shortest ttl of a message.
const MinTTL = time.Second

// Publication is a message that someone wants to publish.
type Publication struct {
	Room        Name
	Payload     Payload
	Event       string
	MessageID   string        // idempotency key; empty = none
	TTL         time.Duration // 0 = as long as the history
	ExcludeUser string
}

// Check validates everything but the room, which [ParseName] has checked, against
// the contract's limits and the room's policy. Errors are of kind [Invalid] and
// name the field and the limit.
func (p *Publication) Check(policy *Policy) error {
	if n := len(p.Payload.Bytes); n > policy.MaxPayload {
		return Invalidf(ReasonPayloadTooLarge, "payload", "has %d bytes; the limit of namespace %q is %d",
			n, policy.Namespace, policy.MaxPayload)
	}
	switch p.Payload.Kind {
	case JSON:
		if !json.Valid(p.Payload.Bytes) {
			return Invalidf(ReasonInvalidJSON, "raw_json", "is not one valid JSON value")
		}
		if !utf8.Valid(p.Payload.Bytes) {
			return Invalidf(ReasonInvalidJSON, "raw_json", "is not valid UTF-8")
		}
		if len(p.Payload.Bytes) <= 2*MaxJSONDepth { // brackets come in pairs
			break
		}
		if depth := JSONDepth(p.Payload.Bytes); depth > MaxJSONDepth {
			return Invalidf(ReasonInvalidJSON, "raw_json", "is nested %d deep; the limit is %d", depth, MaxJSONDepth)
		}
	case Text:
		if !utf8.Valid(p.Payload.Bytes) {
			return Invalidf(ReasonInvalidText, "text", "is not valid UTF-8")
		}
	case Data, Purge:
	}
	if err := checkWord(p.Event, MaxEventLen, ReasonInvalidEvent, "event"); err != nil {
		return err
	}
	if err := checkWord(p.MessageID, MaxMessageIDLen, ReasonInvalidMessageID, "message_id"); err != nil {
		return err
	}
	if p.TTL != 0 && p.TTL < MinTTL {
		return Invalidf(ReasonInvalidTTL, "ttl", "is %s; it must be at least %s", p.TTL, MinTTL)
	}
	return CheckUser(p.ExcludeUser, "exclude_user")
}

// MaxJSONDepth is how deep a JSON body may nest. Readers have limits of their own,
// and a message that they cannot read would stop them again at each resume.
const MaxJSONDepth = 512

// JSONDepth returns how deep the brackets of a valid JSON text nest.
func JSONDepth(text []byte) int {
	now, deepest := 0, 0
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

func checkWord(s string, limit int, reason Reason, field string) error {
	if len(s) > limit {
		return Invalidf(reason, field, "has %d bytes; the limit is %d", len(s), limit)
	}
	if msg := checkText(s); msg != "" {
		return Invalidf(reason, field, "%s", msg)
	}
	return nil
}

// Ack says what became of a publication.
type Ack struct {
	ID        string // the message's id; of a duplicate, the first one's
	Stored    bool   // the log has it
	Duplicate bool   // the room had this message id already
}

// GapReason says why messages may be missing.
type GapReason string

// The reasons of gaps.
const (
	Truncated GapReason = "TRUNCATED" // they left the history, or were purged
	Reset     GapReason = "RESET"     // the log is another one than the position's
	Overflow  GapReason = "OVERFLOW"  // the room is ephemeral and the socket too slow
)

// Page is a stretch of a room's log, in order.
type Page struct {
	Gap      GapReason // why nothing proves that Messages follows the asked position; empty = it does
	Messages []*Message
	Last     Position // of the newest entry read, whether shown or not; zero if none was
	More     bool     // the log has entries after Last
}
