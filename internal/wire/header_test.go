package wire

import (
	"bytes"
	"testing"
)

func TestAppendHeader(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opcode Opcode
		n      int
		want   []byte
	}{
		"empty":            {OpText, 0, []byte{0x81, 0}},
		"one byte of size": {OpText, 125, []byte{0x81, 125}},
		"two from":         {OpBinary, 126, []byte{0x82, 126, 0, 126}},
		"two to":           {OpBinary, 65535, []byte{0x82, 126, 0xFF, 0xFF}},
		"eight from":       {OpText, 65536, []byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
		"ping":             {OpPing, 5, []byte{0x89, 5}},
		"close":            {OpClose, 2, []byte{0x88, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := AppendHeader([]byte("x"), tc.opcode, tc.n)
			if want := append([]byte("x"), tc.want...); !bytes.Equal(got, want) {
				t.Errorf("got % x, want % x", got, want)
			}
			if len(tc.want) > MaxHeader {
				t.Errorf("header of %d bytes, MaxHeader is %d", len(tc.want), MaxHeader)
			}
		})
	}
}

func TestIsControl(t *testing.T) {
	t.Parallel()
	for _, o := range []Opcode{OpClose, OpPing, OpPong} {
		if !o.IsControl() {
			t.Errorf("opcode %x is no control frame, want one", o)
		}
	}
	for _, o := range []Opcode{OpContinuation, OpText, OpBinary} {
		if o.IsControl() {
			t.Errorf("opcode %x is a control frame, want none", o)
		}
	}
}
