package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200<<10) // longer than the reader's buffer
	tests := map[string]struct {
		input string
		want  []string
		bad   string
	}{
		"nothing":              {input: ""},
		"one":                  {input: "a\n", want: []string{"a"}},
		"no line feed at end":  {input: "a\nb", want: []string{"a", "b"}},
		"empty lines":          {input: "\n\na\n", want: []string{"", "", "a"}},
		"carriage return kept": {input: "a\r\nb\n", want: []string{"a\r", "b"}},
		"spaces kept":          {input: "  a \n", want: []string{"  a "}},
		"any bytes":            {input: "\xff\x00\n", want: []string{"\xff\x00"}},
		"long":                 {input: long + "\nb\n", want: []string{long, "b"}},
		"longest":              {input: strings.Repeat("y", maxLine) + "\n", want: []string{strings.Repeat("y", maxLine)}},
		"too long":             {input: "a\n" + strings.Repeat("y", maxLine+2) + "\nb\n", want: []string{"a"}, bad: "line 2: is longer than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			var bad error
			for line, err := range lines(strings.NewReader(test.input)) {
				if err != nil {
					bad = err
					continue
				}
				got = append(got, string(line))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if test.bad == "" && bad != nil || test.bad != "" && (bad == nil || !strings.Contains(bad.Error(), test.bad)) {
				t.Errorf("got error %v, want %q", bad, test.bad)
			}
		})
	}
}

func TestLinesReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, err := range lines(io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken))) {
		if !errors.Is(err, broken) {
			t.Errorf("got %v, want %v: half a line is no message", err, broken)
		}
	}
}
