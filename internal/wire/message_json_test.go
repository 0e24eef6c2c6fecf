package wire

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/testing/protocmp"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

var stored = time.Date(2026, 11, 23, 14, 5, 6, 7_000_000, time.UTC)

func TestAppendMessageText(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		message  room.Message
		replayed bool
		want     string
	}{
		"all fields": {
			message: room.Message{
				Room: "orders:42", ID: "e.1.a", Event: "paid", Time: stored,
				Payload: room.Payload{Kind: room.JSON, Bytes: []byte(`{"n": 1.00}`)},
			},
			replayed: true,
			want:     `{"message":{"room":"orders:42","id":"e.1.a","event":"paid","json":{"n": 1.00},"time":"2026-11-23T14:05:06.007Z","replayed":true}}`,
		},
		"empty text": {
			message: room.Message{Room: "r"},
			want:    `{"message":{"room":"r","text":""}}`,
		},
		"data": {
			message: room.Message{Room: "r", ID: "1", Payload: room.Payload{Kind: room.Data, Bytes: []byte{0xFB, 0xFF}}},
			want:    `{"message":{"room":"r","id":"1","data":"+/8="}}`,
		},
		"escapes": {
			message: room.Message{Room: "r", Payload: room.Payload{Bytes: []byte("\"\\\b\f\n\r\t\x00\x1f\x7f<>&/\u2028\u2029é😀")}},
			want:    `{"message":{"room":"r","text":"\"\\\b\f\n\r\t\u0000\u001f` + "\x7f" + `<>&/\u2028\u2029é😀"}}`,
		},
		"no UTF-8": {
			message: room.Message{Room: "r", Payload: room.Payload{Bytes: []byte("a\xffb\xe2\x80")}},
			want:    `{"message":{"room":"r","text":"a` + "\uFFFDb\uFFFD" + `"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(JSON.AppendMessage(nil, &tc.message, tc.replayed)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestQuotedLikeEncodingJSON compares our strings with those of encoding/json.
func TestQuotedLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		s := randomText(rnd, 40)
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
		if got, want := string(appendQuoted(nil, s))+"\n", b.String(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// TestAppendMessageMeansProtoJSON holds the hand-written encoder to protojson.
func TestAppendMessageMeansProtoJSON(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		m := randomMessage(t, rnd)
		replayed := rnd.IntN(2) == 0
		byHand := JSON.AppendMessage(nil, m, replayed)

		p := MessageProto(m, false)
		p.Replayed = replayed
		want := &roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Message{Message: p}}
		got := &roomcastv1.ServerFrame{}
		if err := protojson.Unmarshal(byHand, got); err != nil {
			t.Fatalf("protojson cannot read %s: %v", byHand, err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Fatalf("%s does not mean the message (-want +got):\n%s", byHand, diff)
		}
		requireSameJSON(t, byHand, JSON.EncodeServer(want))

		raw := MessageProto(m, true)
		raw.Replayed = replayed
		inline := JSON.EncodeServer(&roomcastv1.ServerFrame{Frame: &roomcastv1.ServerFrame_Message{Message: raw}})
		requireSameJSON(t, byHand, inline)
		if m.Payload.Kind == room.JSON && !bytes.Contains(inline, m.Payload.Bytes) {
			t.Fatalf("%s does not hold %s unchanged", inline, m.Payload.Bytes)
		}
		// Only room, id and event may need escapes that the hint does not count.
		escapes := 5 * (len(m.Room) + len(m.ID) + len(m.Event))
		if n, hint := len(byHand), JSON.SizeHint(m); n > hint+escapes {
			t.Fatalf("SizeHint says %d, frame has %d bytes", hint, n)
		}
	}
}

func TestAppendMessageAllocatesNothing(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	for name, payload := range payloads() {
		m := &room.Message{Room: "orders:42", ID: "abc.123456.1z", Event: "paid\n\u2028é", Payload: payload, Time: stored}
		dst := make([]byte, 0, 4<<10)
		if n := testing.AllocsPerRun(100, func() { dst = JSON.AppendMessage(dst[:0], m, true) }); n != 0 {
			t.Errorf("%s: got %v allocations a message, want 0", name, n)
		}
	}
}

func FuzzAppendMessage(f *testing.F) {
	f.Add("orders:42", "e.1.a", "paid", byte(0), []byte("text\u2028"), int64(0), int64(1), true)
	f.Add("r", "", "", byte(1), []byte(`{"a":[1.50,"\ud800"]}`), int64(1700000000), int64(999_999_999), false)
	f.Add("r", "\x00", "\"", byte(2), []byte{0xff}, int64(-1), int64(120_000), false)
	f.Fuzz(func(t *testing.T, name, id, event string, kind byte, body []byte, sec, nsec int64, replayed bool) {
		m := &room.Message{
			Room: room.Name(strings.ToValidUTF8(name, "?")), ID: strings.ToValidUTF8(id, "?"), Event: strings.ToValidUTF8(event, "?"),
			Time:    time.Unix(sec%(1<<37), nsec%1_000_000_000),
			Payload: room.Payload{Kind: room.PayloadKind(kind % 3), Bytes: body},
		}
		if m.Time.Year() < 1 || m.Time.Year() > 9999 || !publishable(m.Payload) {
			return // such a message cannot exist
		}
		frame := JSON.AppendMessage(nil, m, replayed)
		var got struct {
			Message struct {
				Room, ID, Event string
				JSON            json.RawMessage
				Text            *string
				Data            []byte
				Time            time.Time
				Replayed        bool
			}
		}
		dec := json.NewDecoder(bytes.NewReader(frame))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil || dec.More() {
			t.Fatalf("cannot read %s: %v", frame, err)
		}
		g := got.Message
		if g.Room != string(m.Room) || g.ID != m.ID || g.Event != m.Event || g.Replayed != replayed || !g.Time.Equal(m.Time) {
			t.Fatalf("got %+v, want %+v", g, m)
		}
		switch m.Payload.Kind {
		case room.JSON:
			if want := bytes.Trim(body, " \t\r\n"); !bytes.Equal(g.JSON, want) {
				t.Fatalf("got %q, want %q", g.JSON, want)
			}
		case room.Data:
			if !bytes.Equal(g.Data, body) {
				t.Fatalf("got %q, want %q", g.Data, body)
			}
		default:
			if g.Text == nil || *g.Text != string(body) {
				t.Fatalf("got %v, want %q", g.Text, body)
			}
		}
	})
}

// publishable reports whether Publish lets such a payload through.
func publishable(p room.Payload) bool {
	policy := room.DefaultPolicy()
	return (&room.Publication{Payload: p}).Check(&policy) == nil
}

func BenchmarkAppendMessage(b *testing.B) {
	for format, f := range formats() {
		for name, payload := range payloads() {
			b.Run("format="+format+"/payload="+name, func(b *testing.B) {
				m := &room.Message{Room: "orders:42", ID: "abc.123456.1z", Event: "paid", Payload: payload, Time: stored}
				dst := make([]byte, 0, f.SizeHint(m))
				b.ReportAllocs()
				for b.Loop() {
					dst = f.AppendMessage(dst[:0], m, false)
				}
				b.SetBytes(int64(len(dst)))
			})
		}
	}
}

func payloads() map[string]room.Payload {
	return map[string]room.Payload{
		"json": {Kind: room.JSON, Bytes: []byte(`{"state":"paid","items":[` + strings.Repeat(`{"n":1},`, 25) + `{}]}`)},
		"text": {Kind: room.Text, Bytes: []byte(strings.Repeat("plain \"text\" é ", 16))},
		"data": {Kind: room.Data, Bytes: bytes.Repeat([]byte{0xF0}, 256)},
	}
}

func requireSameJSON(t *testing.T, a, b []byte) {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if !reflect.DeepEqual(x, y) { // cmp takes for ever on deep nesting
		t.Fatalf("%s and %s differ", a, b)
	}
}

func randomMessage(t *testing.T, rnd *rand.Rand) *room.Message {
	t.Helper()
	m := &room.Message{Room: room.Name("r" + randomText(rnd, 20)), ID: randomText(rnd, 30), Event: randomText(rnd, 64)}
	if rnd.IntN(10) > 0 {
		// 0, 3, 6 or 9 digits of a second.
		precision := []time.Duration{time.Second, time.Millisecond, time.Microsecond, 1}[rnd.IntN(4)]
		m.Time = time.Unix(rnd.Int64N(1<<32), rnd.Int64N(1e9)).Truncate(precision)
	}
	m.Payload.Kind = room.PayloadKind(rnd.IntN(3))
	switch m.Payload.Kind {
	case room.JSON:
		m.Payload.Bytes = randomJSON(t, rnd)
	case room.Data:
		m.Payload.Bytes = make([]byte, rnd.IntN(50))
		for i := range m.Payload.Bytes {
			m.Payload.Bytes[i] = byte(rnd.Uint32())
		}
	default:
		m.Payload.Bytes = []byte(randomText(rnd, 100))
	}
	return m
}

func randomText(rnd *rand.Rand, limit int) string {
	var b strings.Builder
	for range rnd.IntN(limit) {
		switch rnd.IntN(6) {
		case 0:
			b.WriteByte(byte(rnd.IntN(0x20))) // control characters
		case 1:
			b.WriteRune([]rune("\"\\/<>&\u2028\u2029\x7f\uFFFD\U0010FFFF")[rnd.IntN(11)])
		case 2:
			if r := rune(rnd.IntN(utf8.MaxRune)); utf8.ValidRune(r) {
				b.WriteRune(r)
			}
		default:
			b.WriteByte(byte(' ' + rnd.IntN(95)))
		}
	}
	return b.String()
}

func randomJSON(t *testing.T, rnd *rand.Rand) []byte {
	t.Helper()
	var value func(depth int) any
	value = func(depth int) any {
		switch kind := rnd.IntN(7); {
		case kind == 0:
			return nil
		case kind == 1:
			return rnd.IntN(2) == 0
		case kind == 2:
			return rnd.NormFloat64() * 1e6
		case kind == 3 && depth < 4:
			list := []any{}
			for range rnd.IntN(4) {
				list = append(list, value(depth+1))
			}
			return list
		case kind >= 4 && depth < 4:
			object := map[string]any{}
			for range rnd.IntN(4) {
				object[randomText(rnd, 8)] = value(depth + 1)
			}
			return object
		default:
			return randomText(rnd, 20)
		}
	}
	text, err := json.Marshal(value(0))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
