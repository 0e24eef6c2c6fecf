package bus

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	for _, kind := range []room.PayloadKind{room.Text, room.JSON, room.Data} {
		p := &room.Publication{
			Room: "a", Payload: room.Payload{Kind: kind, Bytes: []byte(`"x"`)}, Event: "e", TTL: time.Minute, ExcludeUser: "u",
		}
		body := encodeRecord(p, now)
		for range 2 { // a retry draws another check
			check := setCheck(body)
			got, err := decodeRecord(body, "a", "epoch", 7, now)
			if err != nil {
				t.Fatal(err)
			}
			pos := room.Position{Epoch: "epoch", Seq: 7, Check: check}
			want := &room.Message{
				Room: "a", ID: pos.String(), Position: pos, Event: "e", Payload: p.Payload,
				ExcludeUser: "u", Expires: now.Add(time.Minute), Time: now,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// TestRecordCodec: the generated code reads what we write.
func TestRecordCodec(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_000)
	tests := map[string]struct {
		p    room.Publication
		want *busv1.Record
	}{
		"empty text": {room.Publication{Room: "a"}, &busv1.Record{Room: "a", Payload: &busv1.Record_Text{}}},
		"text": {
			room.Publication{Room: "a:b c", Payload: room.Payload{Kind: room.Text, Bytes: []byte("é")}, Event: "e"},
			&busv1.Record{Room: "a:b c", Payload: &busv1.Record_Text{Text: "é"}, Event: "e"},
		},
		"json": {
			room.Publication{Room: "a", Payload: room.Payload{Kind: room.JSON, Bytes: []byte(`[1]`)}, TTL: time.Minute},
			&busv1.Record{Room: "a", Payload: &busv1.Record_Json{Json: []byte(`[1]`)}, Expires: 1_700_000_060_000},
		},
		"empty data": {
			room.Publication{Room: "a", Payload: room.Payload{Kind: room.Data}, ExcludeUser: "u"},
			&busv1.Record{Room: "a", Payload: &busv1.Record_Data{Data: []byte{}}, ExcludeUser: "u"},
		},
		"purge": {
			room.Publication{Room: "a", Payload: room.Payload{Kind: room.Purge}},
			&busv1.Record{Room: "a", Payload: &busv1.Record_Purge{Purge: true}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := encodeRecord(&tc.p, now)
			want := proto.CloneOf(tc.want)
			want.Check = setCheck(stored)
			compareRecord(t, stored, want)
			ephemeral, id := encodeEphemeral(&tc.p, now)
			want.Check, want.Id, want.Time = 0, id, now.UnixNano()
			compareRecord(t, ephemeral, want)
		})
	}
}

func compareRecord(t *testing.T, body []byte, want *busv1.Record) {
	t.Helper()
	var got busv1.Record
	if err := proto.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&got, want) {
		t.Errorf("got %v, want %v", &got, want)
	}
}

// FuzzDecodeRecord: of any bytes we read what the generated code reads, or refuse
// them as it does.
func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []*busv1.Record{
		{Room: "a", Payload: &busv1.Record_Text{Text: "é"}, Event: "e", ExcludeUser: "u", Expires: 5, Check: 7},
		{Room: "a", Payload: &busv1.Record_Json{Json: []byte("{}")}, Id: "x", Time: -1},
		{Room: "b", Payload: &busv1.Record_Data{Data: []byte{0, 255}}, Check: 1},
		{Room: "a", Payload: &busv1.Record_Purge{Purge: true}, Check: 1},
	} {
		body, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		body = slices.Clip(body) // so that each addition is a copy
		f.Add(body)
		f.Add(append(body, body...))                                                                   // all fields twice
		f.Add(body[:len(body)-1])                                                                      // cut
		f.Add(protowire.AppendVarint(protowire.AppendTag(body, recordEvent, protowire.VarintType), 1)) // another type
		f.Add(protowire.AppendString(protowire.AppendTag(body, 99, protowire.BytesType), "new"))       // of a newer version
		f.Add(protowire.AppendString(protowire.AppendTag(body, recordEvent, protowire.BytesType), "\xff"))
		f.Add(protowire.AppendTag(protowire.AppendTag(body, 12, protowire.StartGroupType), 12, protowire.EndGroupType))
		random := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			changed := bytes.Clone(body)
			changed[random.IntN(len(changed))] = byte(random.Uint32())
			f.Add(changed)
		}
	}
	stored := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, epoch := range []string{"", "epoch"} {
			got, err := decodeRecord(body, "a", epoch, 7, stored)
			want := decodeByGenerated(body, "a", epoch, 7, stored)
			if (err == nil) != (want != nil) {
				t.Fatalf("got %v, %v; want %v", got, err, want)
			}
			if diff := cmp.Diff(want, got); err == nil && diff != "" {
				t.Error(diff)
			}
		}
	})
}

// decodeByGenerated is decodeRecord by way of the generated code; nil where that
// refuses.
func decodeByGenerated(body []byte, name room.Name, epoch string, seq uint64, stored time.Time) *room.Message {
	var r busv1.Record
	if proto.Unmarshal(body, &r) != nil || r.GetRoom() != string(name) || epoch != "" && r.GetCheck() == 0 {
		return nil
	}
	m := &room.Message{Room: name, Event: r.GetEvent(), ExcludeUser: r.GetExcludeUser(), Time: stored}
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
	case *busv1.Record_Purge:
		if epoch == "" {
			return nil // ephemeral rooms have no purges
		}
		m.Payload = room.Payload{Kind: room.Purge}
	}
	if epoch == "" {
		m.ID, m.Time = r.GetId(), time.Unix(0, r.GetTime())
		return m
	}
	m.Position = room.Position{Epoch: epoch, Seq: seq, Check: r.GetCheck()}
	m.ID = m.Position.String()
	return m
}

// TestRecordAllocs: writing takes the body alone, reading the message and its id.
func TestRecordAllocs(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	now := time.Now()
	p := &room.Publication{Room: "user:1", Payload: room.Payload{Kind: room.JSON, Bytes: bytes.Repeat([]byte("1"), 128)}}
	if n := testing.AllocsPerRun(100, func() { setCheck(encodeRecord(p, now)) }); n != 1 {
		t.Errorf("encode: %v allocations, want 1", n)
	}
	body := encodeRecord(p, now)
	setCheck(body)
	n := testing.AllocsPerRun(100, func() {
		if _, err := decodeRecord(body, "user:1", "epoch", 7, now); err != nil {
			t.Fatal(err)
		}
	})
	if n != 2 {
		t.Errorf("decode: %v allocations, want 2", n)
	}
}

// TestPublishAllocs: what a publication costs around its record.
func TestPublishAllocs(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	policy := room.DefaultPolicy()
	ack := []byte(`{"stream":"RC_default","seq":123456}`)
	pins := map[string]struct {
		do   func()
		want float64
	}{
		"subject to publish":        {func() { pubSubject("user:1 2", &policy) }, 1},
		"subject to listen":         {func() { liveSubject("user:1 2", &policy) }, 1},
		"reading acknowledgement":   {func() { storedAt(ack) }, 0},
		"reading a live message":    {liveMessage(t), 2},
		"message id of our own":     {func() { newMsgID() }, 1},
		"message id from the outer": {func() { msgID("a", "b") }, 1},
	}
	for name, pin := range pins {
		if n := testing.AllocsPerRun(100, pin.do); n != pin.want {
			t.Errorf("%s: %v allocations, want %v", name, n, pin.want)
		}
	}
}

// TestMsgID: nodes of different versions must agree, so it must never change.
func TestMsgID(t *testing.T) {
	t.Parallel()
	const want = "bMAKhXqAGpBmhaNNk89Ewv"
	if got := msgID("orders:42", "key-1"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// liveMessage returns a function that reads one message as NATS brings it.
func liveMessage(t *testing.T) func() {
	t.Helper()
	body := encodeRecord(&room.Publication{Room: "a"}, time.Now())
	setCheck(body)
	msg := &nats.Msg{Data: body, Header: nats.Header{
		nats.JSStream: {"RC_default"}, nats.JSSequence: {"8"}, nats.JSLastSequence: {"7"},
		nats.JSTimeStamp: {"2026-11-23T17:53:00.123456789Z"},
	}}
	log := roomLog{name: "a", stream: &logStream{name: "RC_default", epoch: "epoch"}}
	return func() {
		if _, err := parseLive(msg, log); err != nil {
			t.Fatal(err)
		}
	}
}
