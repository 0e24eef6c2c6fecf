package bench

import (
	"bytes"
	"encoding/binary"
)

// A message's text begins with its stamp: a mark that is this run's own, then numbers
// in a fixed width, in an alphabet that no encoding of a frame changes. So it is found
// in a frame of any format by the mark alone.
const (
	markSize  = 8
	sentSize  = 10 // digits of base 32, 5 bits each
	seqSize   = 6
	slotSize  = 3
	stampSize = markSize + sentSize + seqSize + slotSize
)

// digits are those of strconv in base 32, so that a person can read a stamp.
const digits = "0123456789abcdefghijklmnopqrstuv"

// stamp says which message a delivery is of.
type stamp struct {
	sent int64  // nanoseconds of the run's clock at which it was due
	seq  uint32 // its number in its room, from 0
	slot uint16 // its place in the window
}

// mark tells this run's messages from all others.
type mark [markSize]byte

// put writes the mark and the stamp to the front of dst.
func (m mark) put(dst []byte, s stamp) {
	copy(dst, m[:])
	putDigits(dst[markSize:][:sentSize], uint64(s.sent)) //nolint:gosec // since the run began
	putDigits(dst[markSize+sentSize:][:seqSize], uint64(s.seq))
	putDigits(dst[markSize+sentSize+seqSize:][:slotSize], uint64(s.slot))
}

// find looks for the stamp in a frame. Frames of one run differ little, so it tries
// the place where it was last; at is updated.
func (m mark) find(frame []byte, at *int) (stamp, bool) {
	want := binary.LittleEndian.Uint64(m[:])
	if i := *at; len(frame) >= i+stampSize && binary.LittleEndian.Uint64(frame[i:]) == want {
		return readStamp(frame[i+markSize : i+stampSize])
	}
	i := bytes.Index(frame, m[:])
	if i < 0 || len(frame) < i+stampSize {
		return stamp{}, false
	}
	*at = i
	return readStamp(frame[i+markSize : i+stampSize])
}

func readStamp(b []byte) (stamp, bool) {
	sent, ok1 := readDigits(b[:sentSize])
	seq, ok2 := readDigits(b[sentSize:][:seqSize])
	slot, ok3 := readDigits(b[sentSize+seqSize:][:slotSize])
	return stamp{sent: int64(sent), seq: uint32(seq), slot: uint16(slot)}, ok1 && ok2 && ok3 //nolint:gosec // as wide as their digits
}

func putDigits(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = digits[v&31]
		v >>= 5
	}
}

func readDigits(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		var d byte
		switch {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'v':
			d = c - 'a' + 10
		default:
			return 0, false
		}
		v = v<<5 | uint64(d)
	}
	return v, true
}
