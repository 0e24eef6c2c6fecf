package main

import (
	"fmt"
	"io"
	"time"

	"github.com/roomcast/roomcast/internal/bench"
)

// benchProgress tells on standard error what a run is doing: one line that is
// repainted on a terminal, one a phase elsewhere. It belongs to one goroutine at a time.
type benchProgress struct {
	w        io.Writer
	terminal bool
	phase    bench.Phase // of the latest line
}

func newBenchProgress(w io.Writer) *benchProgress {
	return &benchProgress{w: w, terminal: isTerminal(w)}
}

func (p *benchProgress) show(s bench.Status) {
	switch {
	case p.terminal:
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", statusText(s))
	case p.phase != s.Phase:
		_, _ = fmt.Fprintln(p.w, statusText(s))
	}
	p.phase = s.Phase
}

// finish removes the repainted line.
func (p *benchProgress) finish() {
	if p.terminal {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
}

func statusText(s bench.Status) string {
	text := string(s.Phase)
	if s.Phase == bench.Connecting {
		text += fmt.Sprintf(" %d/%d", s.Connected, s.Sockets)
	} else {
		text += fmt.Sprintf(" %s, %.0f deliveries/s", s.Elapsed.Round(100*time.Millisecond), s.Rate)
	}
	if s.Problems > 0 {
		text += fmt.Sprintf(", %d errors", s.Problems)
	}
	return text
}
