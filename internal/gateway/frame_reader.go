package gateway

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// opcode says what a frame or a message is.
type opcode = wire.Opcode

// The close codes that the frame reader asks for, and those that never stand in a
// frame, RFC 6455 §7.4.1.
const (
	statusProtocolError  = 1002
	statusNone           = 1005 // what onClose gets for a close frame without a code
	statusAbnormal       = 1006 // the connection ended without a close frame
	statusInvalidPayload = 1007
	statusTooBig         = 1009
)

// closeError ends a connection: the code and reason of the close frame that the
// peer gets. The reason begins with a machine word and has at most 123 bytes.
type closeError struct {
	code   uint16
	reason string
}

// Error returns the code and the reason.
func (e *closeError) Error() string { return fmt.Sprintf("close %d: %s", e.code, e.reason) }

func protocolError(what string) error {
	return &closeError{code: statusProtocolError, reason: "PROTOCOL_ERROR " + what}
}

// frameHandler gets what the reader has read, in order. A payload is valid only
// during the call. An error stops the reader and comes back from Feed.
type frameHandler interface {
	// onMessage gets a whole message, text (valid UTF-8) or binary.
	onMessage(op opcode, payload []byte) error
	onPing(payload []byte) error
	onPong(payload []byte) error
	// onClose gets statusNone if the frame held no code; that code is never sent.
	onClose(code uint16, reason string) error
}

// frameReader reads a client's frames, RFC 6455 §5, from bytes as they come, split
// anywhere. It does no I/O, never blocks and has no goroutine; between messages it
// holds no buffer. It belongs to one goroutine at a time.
type frameReader struct {
	// Static after newFrameReader.
	maxMessage int // bytes of a message's payload

	// frames counts the frames whose header has been read, for the budgets of who
	// feeds: control frames and empty fragments reach no onMessage.
	frames uint64

	// completed counts what [frameReader.Partial] may have waited for: messages, and
	// control frames between messages. While it stands still the peer owes the same rest.
	completed uint64

	// The frame being read. left counts the payload's missing bytes; meaningful once
	// inPayload.
	header    [14]byte
	headerLen uint8
	inPayload bool
	fin       bool
	op        opcode // of the frame; of a continuation OpContinuation
	left      int
	maskAt    uint8 // where in the mask the next byte is, 0 to 3

	// The message being read. messageOp is OpContinuation if there is none.
	messageOp opcode
	message   []byte // its payload so far, unmasked; grows with what came, not with what was promised
	checked   int    // how much of a text's message is known to be whole runes

	control []byte // the payload so far of a control frame that came in parts

	closed bool // a close frame was read
	err    error
}

// newFrameReader returns a reader that refuses messages of more than maxMessage
// bytes.
func newFrameReader(maxMessage int) *frameReader {
	return &frameReader{maxMessage: maxMessage}
}

// Partial reports whether the peer owes the rest of a frame or of a message.
func (r *frameReader) Partial() bool {
	return !r.closed && r.err == nil && (r.headerLen > 0 || r.messageOp != wire.OpContinuation)
}

// Feed reads all of p, which is the reader's to change during the call, and calls h
// for each thing that became complete. The error is a [*closeError] for a fault of
// the peer, or h's own; it stays. After a close frame everything is ignored (RFC
// 6455 §5.5.1: the peer sends no more).
func (r *frameReader) Feed(p []byte, h frameHandler) error {
	for r.err == nil && !r.closed && (len(p) > 0 || r.complete()) {
		p, r.err = r.step(p, h)
	}
	if r.err != nil || r.closed {
		r.message, r.control = nil, nil
	}
	return r.err
}

// complete reports whether a frame waits for its end although no byte is missing: a
// frame without a payload.
func (r *frameReader) complete() bool { return r.inPayload && r.left == 0 }

// step reads a piece of one frame from p and returns the rest of p.
func (r *frameReader) step(p []byte, h frameHandler) ([]byte, error) {
	if !r.inPayload {
		return r.readHeader(p)
	}
	piece, rest := p[:min(r.left, len(p))], p[min(r.left, len(p)):]
	r.left -= len(piece)
	r.unmask(piece)
	if r.left == 0 {
		r.inPayload, r.headerLen, r.maskAt = false, 0, 0
	}
	if r.op.IsControl() {
		return rest, r.readControl(piece, h)
	}
	return rest, r.readData(piece, h)
}

// readHeader gathers a frame's header, RFC 6455 §5.2, and judges each part as soon
// as it is there: the two first bytes, the length, then the mask.
func (r *frameReader) readHeader(p []byte) ([]byte, error) {
	lengthEnd := 2 + lengthSize(r.header[1]) // of use once the second byte is there
	need := 2
	if r.headerLen >= 2 {
		need = lengthEnd
		if int(r.headerLen) >= lengthEnd {
			need = lengthEnd + 4
		}
	}
	n := copy(r.header[r.headerLen:need], p)
	r.headerLen += uint8(n) //nolint:gosec // at most 14
	p = p[n:]
	switch {
	case int(r.headerLen) < need:
		return p, nil
	case need == 2:
		err := r.readFirstBytes()
		if err == nil && lengthSize(r.header[1]) == 0 {
			err = r.readLength()
		}
		return p, err
	case need == lengthEnd:
		return p, r.readLength()
	default:
		r.inPayload = true
		r.frames++
		return p, nil
	}
}

// lengthSize returns how many bytes of length follow a header's second byte.
func lengthSize(second byte) int {
	switch second & 0x7F {
	case 126:
		return 2
	case 127:
		return 8
	default:
		return 0
	}
}

// readFirstBytes judges everything but the length.
func (r *frameReader) readFirstBytes() error {
	first, second := r.header[0], r.header[1]
	r.fin, r.op = first&0x80 != 0, opcode(first&0xF)
	switch {
	case first&0x70 != 0:
		// RFC 6455 §5.2: RSV1-3 MUST be 0 unless an extension is negotiated; none is.
		return protocolError("reserved bits are set")
	case second&0x80 == 0:
		// RFC 6455 §5.1: the server MUST close when it receives an unmasked frame.
		return protocolError("frame is not masked")
	}
	switch r.op {
	case wire.OpContinuation:
		// RFC 6455 §5.4: a message is one frame with FIN, or begins with an opcode.
		if r.messageOp == wire.OpContinuation {
			return protocolError("continuation without a message")
		}
	case wire.OpText, wire.OpBinary:
		// RFC 6455 §5.4: fragments of one message MUST NOT be interleaved with another's.
		if r.messageOp != wire.OpContinuation {
			return protocolError("new message inside a message")
		}
		r.messageOp = r.op
	case wire.OpClose, wire.OpPing, wire.OpPong:
		// RFC 6455 §5.5: control frames MUST have at most 125 bytes and no fragments.
		if second&0x7F > wire.MaxControlPayload {
			return protocolError("control frame is longer than 125 bytes")
		}
		if !r.fin {
			return protocolError("control frame is fragmented")
		}
	default:
		// RFC 6455 §5.2: an unknown opcode MUST fail the connection.
		return protocolError("reserved opcode")
	}
	return nil
}

// readLength judges the length, before any of the payload is there.
func (r *frameReader) readLength() error {
	var n uint64
	switch lengthSize(r.header[1]) {
	case 0:
		n = uint64(r.header[1] & 0x7F)
	case 2:
		n = uint64(binary.BigEndian.Uint16(r.header[2:]))
		// RFC 6455 §5.2: the minimal number of bytes MUST be used, here and below.
		if n <= 125 {
			return protocolError("length is not minimal")
		}
	default:
		n = binary.BigEndian.Uint64(r.header[2:])
		if n > math.MaxInt64 {
			// RFC 6455 §5.2: the most significant bit MUST be 0.
			return protocolError("length has its highest bit set")
		}
		if n <= math.MaxUint16 {
			return protocolError("length is not minimal")
		}
	}
	// RFC 6455 §7.4.1, 1009, and §10.4: a limit on the message, not on the frame.
	if !r.op.IsControl() && n > uint64(r.maxMessage-len(r.message)) { //nolint:gosec // a message is never over its limit
		return &closeError{
			code:   statusTooBig,
			reason: fmt.Sprintf("%s the limit is %d bytes", room.ReasonPayloadTooLarge, r.maxMessage),
		}
	}
	r.left = int(n)
	return nil
}

// unmask undoes the masking of a piece of the payload in its place, RFC 6455 §5.3.
func (r *frameReader) unmask(piece []byte) {
	key := binary.LittleEndian.Uint32(r.header[r.headerLen-4:])
	key = bits.RotateLeft32(key, -8*int(r.maskAt))
	r.maskAt = (r.maskAt + uint8(len(piece)&3)) & 3
	twice := uint64(key)<<32 | uint64(key)
	for len(piece) >= 8 {
		binary.LittleEndian.PutUint64(piece, binary.LittleEndian.Uint64(piece)^twice)
		piece = piece[8:]
	}
	for i := range piece {
		piece[i] ^= byte(twice >> (8 * i)) //nolint:gosec // the low byte is meant
	}
}

// readData takes a piece of a data frame. A message that came in one piece is
// handed on where it is; else its pieces are gathered.
func (r *frameReader) readData(piece []byte, h frameHandler) error {
	last := r.fin && r.left == 0
	payload := piece
	if !last || len(r.message) > 0 {
		r.gather(piece)
		payload = r.message
	}
	if r.messageOp == wire.OpText {
		// RFC 6455 §8.1: text that is not UTF-8 MUST fail the connection; at the first bad
		// byte, whatever is still to come.
		n, ok := wholeRunes(payload[r.checked:])
		r.checked += n
		if !ok || last && r.checked < len(payload) {
			return &closeError{code: statusInvalidPayload, reason: string(room.ReasonInvalidText) + " text is not UTF-8"}
		}
	}
	if !last {
		return nil
	}
	op := r.messageOp
	r.completed++
	r.messageOp, r.message, r.checked = wire.OpContinuation, nil, 0
	return h.onMessage(op, payload)
}

// gather appends a piece to the message. The buffer doubles, but in the last frame to
// no more than the message will have.
func (r *frameReader) gather(piece []byte) {
	need := len(r.message) + len(piece)
	if need > cap(r.message) {
		size := max(need, 2*cap(r.message), 64)
		if r.fin {
			size = min(size, need+r.left)
		}
		r.message = append(make([]byte, 0, size), r.message...)
	}
	r.message = append(r.message, piece...)
}

// wholeRunes returns how many bytes at the beginning of text are whole runes; all
// but a last one that may yet become whole. It reports false if text can only be
// the beginning of what is not UTF-8.
func wholeRunes(text []byte) (int, bool) {
	end := len(text)
	for i := end - 1; i >= 0 && i >= end-(utf8.UTFMax-1); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				end = i
			}
			break
		}
	}
	return end, utf8.Valid(text[:end])
}

// readControl takes a piece of a control frame. These may stand between the
// fragments of a message, RFC 6455 §5.4, so they have a buffer of their own.
func (r *frameReader) readControl(piece []byte, h frameHandler) error {
	payload := piece
	if r.left > 0 || len(r.control) > 0 {
		r.control = append(r.control, piece...)
		payload = r.control
	}
	if r.left > 0 {
		return nil
	}
	r.control = nil
	if r.messageOp == wire.OpContinuation {
		r.completed++
	}
	switch r.op {
	case wire.OpPing:
		return h.onPing(payload)
	case wire.OpPong:
		return h.onPong(payload)
	default:
		return r.readClose(payload, h)
	}
}

// readClose reads a close frame's payload: nothing, or a code and a reason.
func (r *frameReader) readClose(payload []byte, h frameHandler) error {
	r.closed = true
	if len(payload) == 0 {
		return h.onClose(statusNone, "") // RFC 6455 §7.1.5
	}
	if len(payload) == 1 {
		// RFC 6455 §5.5.1: a body MUST begin with a 2-byte code.
		return protocolError("close frame with half a code")
	}
	code, reason := binary.BigEndian.Uint16(payload), payload[2:]
	if !closeCodeAllowed(code) {
		return protocolError("close code may not be sent")
	}
	if !utf8.Valid(reason) {
		// RFC 6455 §5.5.1 and §8.1: the reason is UTF-8.
		return &closeError{code: statusInvalidPayload, reason: string(room.ReasonInvalidText) + " close reason is not UTF-8"}
	}
	return h.onClose(code, string(reason))
}

// closeCodeAllowed reports whether a peer may send the code: RFC 6455 §7.4 and the
// IANA registry, which has added 1012 to 1014.
func closeCodeAllowed(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	default:
		return code >= 3000 && code <= 4999
	}
}
