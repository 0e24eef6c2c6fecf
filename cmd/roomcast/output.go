package main

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// idleFlush is how long written lines may wait for more.
const idleFlush = 10 * time.Millisecond

// lineWriter buffers lines, so that a hundred thousand of them are few writes, and
// flushes by itself when no more come. Its methods may be called by several
// goroutines.
type lineWriter struct {
	mu      sync.Mutex
	out     *bufio.Writer
	timer   *time.Timer // runs while lines wait; nil before the first
	waiting bool
	err     error // of any write; kept, as nothing later can be right
}

func newLineWriter(w io.Writer) *lineWriter {
	return &lineWriter{out: bufio.NewWriterSize(w, 64<<10)}
}

// writeLine adds one line. An error is the one of an earlier write, too: the reader
// of a pipe went away.
func (w *lineWriter) writeLine(line []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(line)
	w.write([]byte("\n"))
	if !w.waiting {
		w.waiting = true
		if w.timer == nil {
			w.timer = time.AfterFunc(idleFlush, w.flush)
		} else {
			w.timer.Reset(idleFlush)
		}
	}
	return w.err
}

func (w *lineWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLocked()
}

func (w *lineWriter) flushLocked() {
	w.waiting = false
	if w.err == nil {
		w.err = w.out.Flush()
	}
}

// close flushes. Nothing may be written afterwards.
func (w *lineWriter) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.flushLocked()
	return w.err
}
