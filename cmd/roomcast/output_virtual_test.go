package main

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLineWriterFlushesWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		w := newLineWriter(&out)
		if err := w.writeLine([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if err := w.writeLine([]byte("b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := out.String(); got != "" {
			t.Errorf("at once: got %q, want nothing yet", got)
		}
		time.Sleep(idleFlush)
		synctest.Wait()
		if got := out.String(); got != "a\nb\n" {
			t.Errorf("when idle: got %q, want both lines", got)
		}
		if err := w.writeLine([]byte("c")); err != nil {
			t.Fatal(err)
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != "a\nb\nc\n" {
			t.Errorf("after close: got %q, want all lines", got)
		}
	})
}

func TestLineWriterKeepsItsError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newLineWriter(brokenWriter{})
		if err := w.writeLine([]byte("a")); err != nil {
			t.Fatalf("got %v before anything was written", err)
		}
		time.Sleep(idleFlush)
		synctest.Wait()
		if err := w.writeLine([]byte("b")); !errors.Is(err, errBroken) {
			t.Errorf("got %v, want the write's error", err)
		}
		if err := w.close(); !errors.Is(err, errBroken) {
			t.Errorf("close: got %v, want the write's error", err)
		}
	})
}

// lockedBuffer is read by the test while the writer's timer may write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
