package bench

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// problems counts what must not happen. It is safe for concurrent use.
type problems struct {
	duplicated atomic.Int64
	reordered  atomic.Int64
	closed     atomic.Int64
	gaps       atomic.Int64
	refused    atomic.Int64
	unfinished atomic.Int64
	unexpected atomic.Int64

	mu       sync.Mutex
	examples []string // guarded by mu; the first few
}

// maxExamples keeps a report readable.
const maxExamples = 5

// note counts a problem and keeps its text if it is among the first different ones.
func (p *problems) note(count *atomic.Int64, format string, args ...any) {
	count.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.examples) == maxExamples {
		return
	}
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.examples, text) {
		p.examples = append(p.examples, text)
	}
}

// firstExamples are the texts of the first problems.
func (p *problems) firstExamples() (errs []error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.examples {
		errs = append(errs, errors.New(text))
	}
	return errs
}

// total is how many there were until now; what is lost shows only at the end.
func (p *problems) total() int64 {
	return p.duplicated.Load() + p.reordered.Load() + p.closed.Load() + p.gaps.Load() +
		p.refused.Load() + p.unfinished.Load() + p.unexpected.Load()
}

// Errors are a run's failures; all zero is a good run.
type Errors struct {
	Lost       int64    `json:"lost"`       // deliveries that never came
	Duplicated int64    `json:"duplicated"` // deliveries that came again
	Reordered  int64    `json:"reordered"`  // deliveries out of their room's order
	Closed     int64    `json:"closed"`     // sockets that the server closed
	Gaps       int64    `json:"gaps"`       // gap frames
	Refused    int64    `json:"refused"`    // messages whose publish failed
	Unfinished int64    `json:"unfinished"` // messages that some socket did not get in time
	Unexpected int64    `json:"unexpected"` // frames that have no place in a good run
	Examples   []string `json:"examples,omitempty"`
}

// Any reports whether anything failed.
func (e *Errors) Any() bool {
	return e.Lost+e.Duplicated+e.Reordered+e.Closed+e.Gaps+e.Refused+e.Unfinished+e.Unexpected > 0
}

func (p *problems) errors(lost int64) Errors {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Errors{
		Lost: lost, Duplicated: p.duplicated.Load(), Reordered: p.reordered.Load(), Closed: p.closed.Load(),
		Gaps: p.gaps.Load(), Refused: p.refused.Load(), Unfinished: p.unfinished.Load(),
		Unexpected: p.unexpected.Load(), Examples: p.examples,
	}
}
