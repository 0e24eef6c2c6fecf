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

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// checkTag is the protobuf tag of Record.check: field 10, 32-bit.
const checkTag = 10<<3 | 5

// encodeRecord encodes a stored record. The last four bytes are its check, so that a
// retry can draw a new one in place: see setCheck.
func encodeRecord(p *room.Publication, now time.Time) ([]byte, error) {
	body, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 0, len(p.Payload.Bytes)+len(p.Room)+len(p.Event)+48), newRecord(p, now))
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(body, checkTag, 0, 0, 0, 0), nil
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
func encodeEphemeral(p *room.Publication, now time.Time) (body []byte, id string, err error) {
	r := newRecord(p, now)
	r.Id = strconv.FormatUint(rand.Uint64(), 36) //nolint:gosec // an id, no secret
	r.Time = now.UnixNano()
	body, err = proto.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("encode record: %w", err)
	}
	return body, r.Id, nil
}

func newRecord(p *room.Publication, now time.Time) *busv1.Record {
	r := &busv1.Record{Room: string(p.Room), Event: p.Event, ExcludeUser: p.ExcludeUser}
	if p.TTL > 0 {
		r.Expires = now.Add(p.TTL).UnixMilli()
	}
	switch p.Payload.Kind {
	case room.JSON:
		r.Payload = &busv1.Record_Json{Json: p.Payload.Bytes}
	case room.Text:
		r.Payload = &busv1.Record_Text{Text: string(p.Payload.Bytes)}
	case room.Data:
		r.Payload = &busv1.Record_Data{Data: p.Payload.Bytes}
	}
	return r
}

// decodeRecord turns a record of a room into a message. The position's sequence,
// epoch and the store time come from the log; an ephemeral record has epoch "". What
// is no record of the room is an error: others may write to the stream.
func decodeRecord(body []byte, name room.Name, epoch string, seq uint64, stored time.Time) (*room.Message, error) {
	var r busv1.Record
	if err := proto.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	if r.GetRoom() != string(name) || epoch != "" && r.GetCheck() == 0 {
		return nil, errors.New("decode record: it is not of this room")
	}
	m := &room.Message{
		Room:        room.Name(r.GetRoom()),
		Event:       r.GetEvent(),
		ExcludeUser: r.GetExcludeUser(),
		Time:        stored,
	}
	if ms := r.GetExpires(); ms != 0 {
		m.Expires = time.UnixMilli(ms)
	}
	switch p := r.GetPayload().(type) {
	case *busv1.Record_Json:
		m.Payload = room.Payload{Kind: room.JSON, Bytes: p.Json}
	case *busv1.Record_Text:
		m.Payload = room.Payload{Kind: room.Text, Bytes: []byte(p.Text)}
	case *busv1.Record_Data:
		m.Payload = room.Payload{Kind: room.Data, Bytes: p.Data}
	}
	if epoch == "" {
		m.ID, m.Time = r.GetId(), time.Unix(0, r.GetTime())
		return m, nil
	}
	m.Position = room.Position{Epoch: epoch, Seq: seq, Check: r.GetCheck()}
	m.ID = m.Position.String()
	return m, nil
}

// msgID is the Nats-Msg-Id of a publication with an idempotency key. The duplicate
// window is per stream, so the room is part of it: the same key in another room is
// another message.
func msgID(n room.Name, messageID string) string {
	h := sha256.New()
	h.Write([]byte(n))
	h.Write([]byte{0})
	h.Write([]byte(messageID))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:22]
}

// newMsgID is the Nats-Msg-Id of a publication without a key: for our own retries.
func newMsgID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64()) //nolint:gosec // unique, no secret
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64()) //nolint:gosec // unique, no secret
	return base64.RawURLEncoding.EncodeToString(b[:])
}
