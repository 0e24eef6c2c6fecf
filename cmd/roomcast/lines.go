package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

// maxLine bounds a line of standard input, in bytes: twice the largest payload
// that any policy allows, so that the node's own refusal names the limit.
const maxLine = 1 << 20

// lines yields each line of r without its line feed, exactly as it stands: a
// carriage return stays, and an empty line is an empty message. The last line may
// lack its line feed. The slice is the caller's. An error ends the sequence.
func lines(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		buffered := bufio.NewReaderSize(r, 64<<10)
		for n := 1; ; n++ {
			line, err := readLine(buffered)
			switch {
			case errors.Is(err, io.EOF) && len(line) == 0:
				return
			case err != nil && !errors.Is(err, io.EOF):
				yield(nil, fmt.Errorf("line %d: %w", n, err))
				return
			}
			if !yield(bytes.TrimSuffix(line, []byte("\n")), nil) || err != nil {
				return
			}
		}
	}
}

// readLine returns a fresh slice with the line and its line feed, or io.EOF with
// what follows the last one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine+1 {
			return nil, fmt.Errorf("is longer than %d bytes", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
