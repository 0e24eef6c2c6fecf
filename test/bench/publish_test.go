package main

import (
	"strings"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/bench"
)

func TestWritePublishes(t *testing.T) {
	t.Parallel()
	m := &measurement{}
	for _, way := range publishWays {
		for _, bare := range []bool{false, true} {
			p := publishes{way: way.name, callers: way.callers, bare: bare, count: 2000, Usage: bench.Usage{Seconds: 2, CPU: 0.1}}
			for i := range 101 {
				wait := time.Duration(i+way.callers) * time.Millisecond
				if bare {
					wait /= 2
				}
				p.waits = append(p.waits, wait)
			}
			m.published = append(m.published, p)
		}
	}
	var b strings.Builder
	writePublishes(&b, []result{{row: &row{name: "C"}, runs: []*measurement{{}}}, {row: &row{name: "P"}, runs: []*measurement{m}}})
	for _, want := range []string{
		"| P | unary | 1 | 51.0 ms | 100 ms | 1.0 k | 50.0 µs | 25.5 ms | 50.0 ms | 1.0 k | 50.0 µs |\n",
		"| P | stream | 64 | 114 ms | 163 ms | 1.0 k | 50.0 µs | 57.0 ms | 81.5 ms | 1.0 k | 50.0 µs |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s, want\n%s", b.String(), want)
		}
	}
	if got := figuresOfPublishing()[0].value(m); got != 25.5 {
		t.Errorf("one caller waits %v ms beyond nats.go, want 25.5", got)
	}
}
