package bench

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/roomcast/roomcast/internal/wire"
)

// frame is one WebSocket frame from a server, RFC 6455 §5.2.
type frame struct {
	op      wire.Opcode
	payload []byte
}

var errFrame = errors.New("protocol error")

// nextFrame takes the first frame off b. A size of 0 means that b does not hold the
// whole of it yet. Servers do not mask, and ours does not split a message.
func nextFrame(b []byte) (f frame, size int, err error) {
	if len(b) < 2 {
		return frame{}, 0, nil
	}
	if b[0]&0xF0 != 0x80 || b[1]&0x80 != 0 {
		return frame{}, 0, fmt.Errorf("%w: header %x", errFrame, b[:2])
	}
	header, n := 2, uint64(b[1])
	switch n {
	case 126:
		if len(b) < 4 {
			return frame{}, 0, nil
		}
		header, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if len(b) < 10 {
			return frame{}, 0, nil
		}
		header, n = 10, binary.BigEndian.Uint64(b[2:])
		if n > maxFrame {
			return frame{}, 0, fmt.Errorf("%w: a frame of %d bytes", errFrame, n)
		}
	}
	end := header + int(n) //nolint:gosec // at most maxFrame
	if len(b) < end {
		return frame{}, 0, nil
	}
	return frame{op: wire.Opcode(b[0] & 0x0F), payload: b[header:end]}, end, nil
}

// maskBit marks a frame as masked.
const maskBit = 0x80

// clientFrame is a control frame to a server: masked, RFC 6455 §5.3. The key may be
// zero, which leaves the payload as it is: masking protects proxies from pages, and
// this is no page.
func clientFrame(op wire.Opcode, payload []byte) []byte {
	payload = payload[:min(len(payload), wire.MaxControlPayload)]
	b := append(make([]byte, 0, 6+len(payload)), 0x80|byte(op), maskBit|byte(len(payload)), 0, 0, 0, 0) //nolint:gosec // at most 125
	return append(b, payload...)
}
