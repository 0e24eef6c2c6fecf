package wire

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for subprotocol, want := range map[string]struct {
		format Format
		opcode Opcode
	}{
		"roomcast.v1.json":     {JSON, OpText},
		"roomcast.v1.protobuf": {Protobuf, OpBinary},
	} {
		f, ok := FormatOf(subprotocol)
		if !ok || f != want.format || f.Subprotocol() != subprotocol || f.Opcode() != want.opcode {
			t.Errorf("%s: got format %d (%v) of opcode %x named %s", subprotocol, f, ok, f.Opcode(), f.Subprotocol())
		}
		if f >= Formats {
			t.Errorf("format %d does not fit an array of %d", f, Formats)
		}
	}
	for _, subprotocol := range []string{"", "roomcast.v1", "roomcast.v1.JSON", "roomcast.v2.json", " roomcast.v1.json"} {
		if _, ok := FormatOf(subprotocol); ok {
			t.Errorf("%q is served, want not", subprotocol)
		}
	}
	var zero Format
	if zero != JSON {
		t.Errorf("the zero format is %d, want JSON", zero)
	}
}

// requests is what clients send, in each format.
func requests(tb testing.TB) map[string][Formats][]byte {
	tb.Helper()
	body := `{"state":"paid","items":[` + strings.Repeat(`{"n":1},`, 25) + `{}]}`
	publish := publishFrame(&roomcastv1.ClientFrame_Publish{
		Room: "orders:42", MessageId: "m-1", Payload: &roomcastv1.ClientFrame_Publish_RawJson{RawJson: []byte(body)},
	})
	publish.Id = 123456
	both := map[string][Formats][]byte{
		"publish": {[]byte(`{"id":123456,"publish":{"room":"orders:42","json":` + body + `,"messageId":"m-1"}}`), binaryFrame(tb, publish)},
	}
	for name, text := range map[string]string{
		"subscribe": `{"id":123456,"subscribe":{"room":"orders:42","after":"abc.123456.1z","presence":true}}`,
		"ping":      `{"id":123456,"ping":{}}`,
	} {
		frame := &roomcastv1.ClientFrame{}
		if err := protojson.Unmarshal([]byte(text), frame); err != nil {
			tb.Fatal(err)
		}
		both[name] = [Formats][]byte{[]byte(text), binaryFrame(tb, frame)}
	}
	return both
}

func TestDecodeClientAllocations(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts the process
	all := requests(t)
	// The frame, its oneof and its request, and each string in it.
	for name, want := range map[string]float64{"subscribe": 5, "ping": 3} {
		for f := range Format(Formats) {
			if n := testing.AllocsPerRun(100, func() { _, _ = f.DecodeClient(all[name][f]) }); n > want {
				t.Errorf("format %d, %s: got %v allocations, want at most %v", f, name, n, want)
			}
		}
	}
}

func BenchmarkDecodeClient(b *testing.B) {
	for name, texts := range requests(b) {
		for format, f := range formats() {
			b.Run("format="+format+"/frame="+name, func(b *testing.B) {
				b.SetBytes(int64(len(texts[f])))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := f.DecodeClient(texts[f]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
