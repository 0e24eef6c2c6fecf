package main

import (
	"bytes"
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		terminal          bool
		accepted, refused int
		want              string
	}{
		"a file gets the summary only": {accepted: 3, want: "published 3 messages in 0.3 s (10/s)\n"},
		"one":                          {accepted: 1, want: "published 1 message in 0.1 s (10/s)\n"},
		"refusals":                     {accepted: 1, refused: 1, want: "published 1 message in 0.2 s (5/s); 1 refused\n"},
		"nothing":                      {want: "published 0 messages in 0.0 s\n"},
		"a terminal is repainted": {
			terminal: true, accepted: 3,
			want: "\r\x1b[Kpublished 2 messages in 0.2 s (10/s)\r\x1b[Kpublished 3 messages in 0.3 s (10/s)\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			p := newProgress(&out, start)
			p.terminal = test.terminal
			now := start
			for i := range test.accepted + test.refused {
				now = now.Add(100 * time.Millisecond)
				p.add(i < test.accepted, now)
			}
			p.finish(now)
			if got := out.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
