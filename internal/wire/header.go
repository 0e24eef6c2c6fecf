package wire

import "encoding/binary"

// Opcode says what a WebSocket frame is, RFC 6455 §5.2.
type Opcode byte

// The opcodes of RFC 6455 §11.8; all others are reserved.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// IsControl reports whether frames of this kind are control frames, RFC 6455 §5.5.
func (o Opcode) IsControl() bool { return o&0x8 != 0 }

// MaxControlPayload is the largest payload of a control frame in bytes, RFC 6455 §5.5.
const MaxControlPayload = 125

// MaxHeader is the size of the longest header that [AppendHeader] writes, in bytes.
const MaxHeader = 10

const finBit = 0x80

// AppendHeader appends the header of an unfragmented frame from the server whose
// payload has n bytes. The caller keeps control frames within [MaxControlPayload].
func AppendHeader(dst []byte, opcode Opcode, n int) []byte {
	// RFC 6455 §5.1: a server MUST NOT mask, so the mask bit stays zero.
	dst = append(dst, finBit|byte(opcode))
	// RFC 6455 §5.2: the minimal number of bytes MUST be used to encode the length.
	switch {
	case n <= 125:
		return append(dst, byte(n)) //nolint:gosec // at most 125
	case n <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
}
