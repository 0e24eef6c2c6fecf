package room

import (
	"strconv"
	"strings"
)

// Position is a place in a room's log: `<epoch>.<seq>.<check>` in text. Clients
// treat it as opaque.
//
// A position with a check is a message's: it proves itself because the same
// sequence, should the log lose its tail and use it again, gets another check. A
// position without a check is a watermark: the stream's last sequence when the
// room had no message, proven by the rules of docs/protocol.md §5. In text a "~" stands
// before its moment.
type Position struct {
	Epoch string // the log's identity; another epoch is another log
	Seq   uint64 // the stream's sequence
	Check uint32 // of the record with that sequence; 0 for a watermark
	// Moment tells a watermark of this log from one of another past: low bits of the store
	// time of the stream's message with that sequence; 0 is not known.
	Moment uint32
}

// IsZero reports whether p is no position at all.
func (p Position) IsZero() bool { return p.Epoch == "" }

// IsWatermark reports whether p stands for a moment of the stream, not a message.
func (p Position) IsWatermark() bool { return p.Check == 0 }

// String returns the text form; empty for the zero position.
func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	var buf [64]byte // enough, or append takes more
	b := append(buf[:0], p.Epoch...)
	b = append(b, '.')
	b = strconv.AppendUint(b, p.Seq, 10)
	b = append(b, '.')
	switch {
	case p.Check != 0:
		b = strconv.AppendUint(b, uint64(p.Check), 36)
	case p.Moment != 0:
		b = strconv.AppendUint(append(b, '~'), uint64(p.Moment), 36)
	}
	return string(b)
}

// ParsePosition reads the text form. The error is of kind [Invalid]; field is the
// caller's name for the value, such as "after".
func ParsePosition(s, field string) (Position, error) {
	bad := func() (Position, error) {
		return Position{}, Invalidf(ReasonInvalidPosition, field, "is no message id or position")
	}
	if len(s) > 64 {
		return bad()
	}
	epoch, rest, ok := strings.Cut(s, ".")
	if !ok || epoch == "" || checkText(epoch) != "" {
		return bad()
	}
	seqText, tail, ok := strings.Cut(rest, ".")
	if !ok {
		return bad()
	}
	seq, err := strconv.ParseUint(seqText, 10, 64)
	if err != nil {
		return bad()
	}
	p := Position{Epoch: epoch, Seq: seq}
	if tail != "" {
		digits, isMoment := strings.CutPrefix(tail, "~")
		number, err := strconv.ParseUint(digits, 36, 32)
		switch {
		case err != nil || number == 0:
			return bad()
		case isMoment:
			p.Moment = uint32(number)
		default:
			p.Check = uint32(number)
		}
	}
	if p.String() != s {
		return bad()
	}
	return p, nil
}
