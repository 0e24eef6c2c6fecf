package main

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

// TestFoeListens: it finds the close frame behind others, and knows an end without one.
func TestFoeListens(t *testing.T) {
	t.Parallel()
	message := "\x81\x02{}" + "\x81\x7e\x01\x00" + strings.Repeat("x", 256)
	tests := map[string]struct{ sent, want string }{
		"close frame":   {message + "\x88\x1c\x11\x38AUTH_TIMEOUT retry_ms=1000", "4408 AUTH_TIMEOUT"},
		"no code":       {message + "\x88\x00", "a close frame without a code"},
		"none":          {message, goneSilently},
		"half a frame":  {message[:100], goneSilently},
		"half a header": {message + "\x88", goneSilently},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			go func() {
				_, _ = theirs.Write([]byte(test.sent))
				_ = theirs.Close()
			}()
			f := &foe{conn: ours, in: bufio.NewReader(ours), since: time.Now(), answers: make(chan struct{}, 1), over: make(chan struct{})}
			f.listen()
			if f.end != test.want {
				t.Errorf("got %q, want %q", f.end, test.want)
			}
			if f.told.Before(f.since) || len(f.answers) != 1 {
				t.Errorf("told at %v, %d answers", f.told, len(f.answers))
			}
			_ = ours.Close()
		})
	}
}
