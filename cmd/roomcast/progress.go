package main

import (
	"fmt"
	"io"
	"time"
)

// repaintEvery keeps a terminal calm.
const repaintEvery = 200 * time.Millisecond

// progress counts published messages and says so on standard error: one line that
// is repainted on a terminal, a summary at the end everywhere. It belongs to one
// goroutine.
type progress struct {
	w        io.Writer
	terminal bool
	start    time.Time
	painted  time.Time
	accepted int
	refused  int
}

func newProgress(w io.Writer, now time.Time) *progress {
	return &progress{w: w, terminal: isTerminal(w), start: now, painted: now}
}

// add counts one answer.
func (p *progress) add(ok bool, now time.Time) {
	if ok {
		p.accepted++
	} else {
		p.refused++
	}
	if p.terminal && now.Sub(p.painted) >= repaintEvery {
		p.painted = now
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", p.text(now))
	}
}

// clear removes the repainted line, so that another line can be written.
func (p *progress) clear() {
	if p.terminal {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
}

// finish writes the summary.
func (p *progress) finish(now time.Time) {
	p.clear()
	_, _ = fmt.Fprintln(p.w, p.text(now))
}

func (p *progress) text(now time.Time) string {
	took := now.Sub(p.start)
	text := fmt.Sprintf("published %d %s in %.1f s", p.accepted, plural(p.accepted, "message"), took.Seconds())
	if took > 0 {
		text += fmt.Sprintf(" (%.0f/s)", float64(p.accepted)/took.Seconds())
	}
	if p.refused > 0 {
		text += fmt.Sprintf("; %d refused", p.refused)
	}
	return text
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
