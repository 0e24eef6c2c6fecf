package bus

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/roomcast/roomcast/internal/room"
)

// The fields of busv1.Record. Records are written and read by hand because there is
// one for each message: no value for the record, none for its body. TestRecordCodec
// holds this to what the generated code does.
const (
	recordRoom        protowire.Number = 1
	recordEvent       protowire.Number = 2
	recordJSON        protowire.Number = 3
	recordText        protowire.Number = 4
	recordData        protowire.Number = 5
	recordExcludeUser protowire.Number = 6
	recordExpires     protowire.Number = 7
	recordID          protowire.Number = 8
	recordTime        protowire.Number = 9
	recordCheck       protowire.Number = 10
	recordPurge       protowire.Number = 11
)

// recordOverhead is room for a record's tags, lengths and numbers.
const recordOverhead = 64

// encodeRecord encodes a stored record. The last four bytes are its check, so that a
// retry can draw a new one in place: see setCheck. The publication has passed its
// Check: texts are valid UTF-8.
func encodeRecord(p *room.Publication, now time.Time) []byte {
	body := appendRecord(make([]byte, 0, recordSize(p)), p, now)
	body = protowire.AppendTag(body, recordCheck, protowire.Fixed32Type)
	return protowire.AppendFixed32(body, 0)
}

// setCheck draws a new check for a body of encodeRecord and returns it.
func setCheck(body []byte) uint32 {
	check := rand.Uint32() //nolint:gosec // tells attempts apart, no secret
	if check == 0 {
		check = 1 // 0 marks a watermark
	}
	binary.LittleEndian.PutUint32(body[len(body)-4:], check)
	return check
}

// encodeEphemeral encodes a record that no log will number: it carries its own id
// and time.
func encodeEphemeral(p *room.Publication, now time.Time) (body []byte, id string) {
	id = strconv.FormatUint(rand.Uint64(), 36) //nolint:gosec // an id, no secret
	body = appendRecord(make([]byte, 0, recordSize(p)), p, now)
	body = appendText(body, recordID, id)
	body = protowire.AppendTag(body, recordTime, protowire.VarintType)
	return protowire.AppendVarint(body, uint64(now.UnixNano())), id
}

func recordSize(p *room.Publication) int {
	return len(p.Room) + len(p.Event) + len(p.Payload.Bytes) + len(p.ExcludeUser) + recordOverhead
}

func appendRecord(dst []byte, p *room.Publication, now time.Time) []byte {
	dst = appendText(dst, recordRoom, string(p.Room))
	dst = appendText(dst, recordEvent, p.Event)
	if p.Payload.Kind == room.Purge {
		return append(protowire.AppendTag(dst, recordPurge, protowire.VarintType), 1)
	}
	body := recordText
	switch p.Payload.Kind {
	case room.JSON:
		body = recordJSON
	case room.Data:
		body = recordData
	case room.Text, room.Purge:
	}
	dst = protowire.AppendTag(dst, body, protowire.BytesType)
	dst = protowire.AppendBytes(dst, p.Payload.Bytes) // an empty body is one, too
	dst = appendText(dst, recordExcludeUser, p.ExcludeUser)
	if p.TTL > 0 {
		dst = protowire.AppendTag(dst, recordExpires, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(now.Add(p.TTL).UnixMilli()))
	}
	return dst
}

// appendText appends a field unless it is empty.
func appendText(dst []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), text)
}

// decodeRecord turns a record of a room into a message, whose payload is a part of
// body. The position's sequence, epoch and the store time come from the log; an
// ephemeral record has epoch "". What is no record of the room is an error: others may
// write to the stream.
func decodeRecord(body []byte, name room.Name, epoch string, seq uint64, stored time.Time) (*room.Message, error) {
	m := &room.Message{Time: stored}
	r := recordReader{message: m, name: name}
	if err := r.read(body); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	if m.Room != name || epoch != "" && r.check == 0 || epoch == "" && m.IsPurge() {
		return nil, errors.New("decode record: it is not of this room")
	}
	if epoch == "" {
		m.ID, m.Time = r.id, time.Unix(0, r.time)
		return m, nil
	}
	m.Position = room.Position{Epoch: epoch, Seq: seq, Check: r.check}
	m.ID = m.Position.String()
	return m, nil
}

// recordReader reads the fields of one record. As everywhere in protobuf, of a field
// that comes twice the last counts, and fields that are not known are left out.
type recordReader struct {
	message *room.Message
	name    room.Name // the room that the record should be of

	id    string
	time  int64
	check uint32
}

func (r *recordReader) read(body []byte) error {
	for len(body) > 0 {
		field, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return protowire.ParseError(n)
		}
		body = body[n:]
		size := protowire.ConsumeFieldValue(field, kind, body)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := r.field(field, kind, body[:size]); err != nil {
			return err
		}
		body = body[size:]
	}
	return nil
}

// field takes one field, whose value is whole. One of another type than ours is not
// known.
func (r *recordReader) field(field protowire.Number, kind protowire.Type, value []byte) error {
	switch kind {
	case protowire.BytesType:
		value, _ = protowire.ConsumeBytes(value)
		return r.bytes(field, value)
	case protowire.VarintType:
		number, _ := protowire.ConsumeVarint(value)
		r.varint(field, int64(number)) //nolint:gosec // both are int64, two's complement on the wire
	case protowire.Fixed32Type:
		if field == recordCheck {
			r.check, _ = protowire.ConsumeFixed32(value)
		}
	default:
	}
	return nil
}

func (r *recordReader) varint(field protowire.Number, value int64) {
	switch field {
	case recordExpires:
		r.message.Expires = time.Time{}
		if value != 0 {
			r.message.Expires = time.UnixMilli(value)
		}
	case recordTime:
		r.time = value
	case recordPurge:
		r.message.Payload = room.Payload{Kind: room.Purge}
	default:
	}
}

func (r *recordReader) bytes(field protowire.Number, value []byte) error {
	switch field {
	case recordJSON:
		r.message.Payload = room.Payload{Kind: room.JSON, Bytes: value}
	case recordData:
		r.message.Payload = room.Payload{Kind: room.Data, Bytes: value}
	case recordRoom, recordEvent, recordText, recordExcludeUser, recordID:
		if !utf8.Valid(value) {
			return fmt.Errorf("field %d is not valid UTF-8", field)
		}
		r.text(field, value)
	default:
	}
	return nil
}

func (r *recordReader) text(field protowire.Number, value []byte) {
	m := r.message
	switch field {
	case recordRoom:
		m.Room = r.name // without a copy of the same text
		if string(value) != string(r.name) {
			m.Room = room.Name(value)
		}
	case recordEvent:
		m.Event = string(value)
	case recordText:
		m.Payload = room.Payload{Kind: room.Text, Bytes: value}
	case recordExcludeUser:
		m.ExcludeUser = string(value)
	case recordID:
		r.id = string(value)
	default:
	}
}

// msgID is the Nats-Msg-Id of a publication with an idempotency key. The duplicate
// window is per stream, so the room is part of it: the same key in another room is
// another message.
func msgID(n room.Name, messageID string) string {
	var buf [room.MaxNameLen + 1 + room.MaxMessageIDLen]byte
	text := append(append(buf[:0], n...), 0)
	sum := sha256.Sum256(append(text, messageID...))
	var id [43]byte // 32 bytes in base64
	base64.RawURLEncoding.Encode(id[:], sum[:])
	return string(id[:22])
}

// newMsgID is the Nats-Msg-Id of a publication without a key: for our own retries.
func newMsgID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // unique, no secret
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // unique, no secret
	return base64.RawURLEncoding.EncodeToString(b[:])
}
