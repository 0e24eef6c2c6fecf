package gateway

import (
	"fmt"
	"strconv"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// closing is how a socket ends: the code and the words of its close frame
// (docs/protocol.md §7). With statusAbnormal none is sent: the peer is gone.
type closing struct {
	code    uint16
	word    string        // machine word, the beginning of the reason
	retry   time.Duration // retry_ms; 0 = none
	detail  string        // for people, the end of the reason
	byPeer  bool          // the peer closed; the code is its choice
	refused *room.Error   // why, for the log
}

// Close codes.
const (
	codeOpcode     = 1003
	codeInternal   = 1011
	codeRestart    = 1012
	codeBadRequest = 4400
	codeToken      = 4401
	codeNotAllowed = 4403
	codeTimeout    = 4408
	codeTooFast    = 4429
	codeExpired    = 4501
	codeTooSlow    = 4502
	codeNoPong     = 4504
)

// The ways a socket is closed by this node.
var (
	closeNode     = closing{code: codeRestart, word: "DRAINING", retry: 100 * time.Millisecond} //nolint:gochecknoglobals // a table
	closeInternal = closing{code: codeInternal, word: "INTERNAL"}                               //nolint:gochecknoglobals // a table
	closeBinary   = closing{code: codeOpcode, word: "BINARY_FRAME"}                             //nolint:gochecknoglobals // a table
	closeText     = closing{code: codeOpcode, word: "TEXT_FRAME"}                               //nolint:gochecknoglobals // a table
	closeBad      = closing{code: codeBadRequest, word: "BAD_REQUESTS"}                         //nolint:gochecknoglobals // a table
	closeRevoked  = closing{code: codeToken, word: string(room.ReasonTokenRevoked)}             //nolint:gochecknoglobals // a table
	closeNoAuth   = closing{code: codeTimeout, word: "AUTH_TIMEOUT", retry: time.Second}        //nolint:gochecknoglobals // a table
	closeStalled  = closing{code: codeTimeout, word: "FRAME_STALLED", retry: time.Second}       //nolint:gochecknoglobals // a table
	closeTooFast  = closing{code: codeTooFast, word: "TOO_FAST", retry: 5 * time.Second}        //nolint:gochecknoglobals // a table
	closeUnread   = closing{code: codeTooFast, word: "ANSWERS_UNREAD", retry: 5 * time.Second}  //nolint:gochecknoglobals // a table
	closeExpired  = closing{code: codeExpired, word: "TOKEN_EXPIRED"}                           //nolint:gochecknoglobals // a table
	closeTooSlow  = closing{code: codeTooSlow, word: "TOO_SLOW"}                                //nolint:gochecknoglobals // a table
	closeNoPong   = closing{code: codeNoPong, word: "NO_PONG"}                                  //nolint:gochecknoglobals // a table
	closeGone     = closing{code: statusAbnormal, word: "GONE"}                                 //nolint:gochecknoglobals // a table
)

// closeToken closes a socket whose first token is not accepted.
func closeToken(e *room.Error) closing {
	return closing{code: codeToken, word: string(e.Reason), refused: e}
}

// closeDisconnected closes a socket at a backend's wish; word is the backend's.
func closeDisconnected(word string) closing {
	return closing{code: codeNotAllowed, word: "DISCONNECTED", detail: word}
}

// maxReason is what a close frame holds beside its code, RFC 6455 §5.5.
const maxReason = 123

// reason returns the text of the close frame, at most maxReason bytes.
func (c closing) reason() string {
	text := c.word
	if c.retry != 0 {
		text += fmt.Sprintf(" retry_ms=%d", c.retry.Milliseconds())
	}
	if c.detail != "" && len(text)+1+len(c.detail) <= maxReason {
		text += " " + c.detail
	}
	return text
}

// label returns the code as a metric label. What a peer may choose freely counts as
// "other", so that no peer can make thousands of labels.
func (c closing) label() string {
	if c.byPeer {
		switch c.code {
		case 1000, 1001, statusNone:
		default:
			return "other"
		}
	}
	return strconv.Itoa(int(c.code))
}
