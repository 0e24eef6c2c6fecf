package main

import (
	"strings"
	"testing"

	"github.com/roomcast/roomcast/internal/bench"
)

// ran is a measurement with one figure and a disturbance by other load.
func ran(perCPU, other float64) *measurement {
	m := &measurement{}
	m.Traffic.DeliveriesPerCPU = perCPU
	m.Usage = bench.Usage{Seconds: 1, Other: other}
	return m
}

func TestMedianOfTheLeastDisturbed(t *testing.T) {
	t.Parallel()
	r := result{row: &row{name: "X", figures: fanOut(100, "", "", "", "")}}
	for _, m := range []*measurement{ran(1, 1.5), ran(30, 0), ran(10, 0), ran(900, 1.9), ran(20, 0)} {
		r.add(m, 3)
	}
	f := &r.row.figures[0]
	if got := r.measured(f); got != "**20** (10 – 30)" {
		t.Errorf("got %s, want the median of the three runs that nothing disturbed", got)
	}
	if got := r.undisturbed(0.08); got != 3 {
		t.Errorf("%d undisturbed runs, want 3", got)
	}
	if got := r.verdict(f); got != "0.20 of it" {
		t.Errorf("verdict %s", got)
	}
}

// TestErrorsStay: a run with errors is not dropped for a quieter one.
func TestErrorsStay(t *testing.T) {
	t.Parallel()
	r := result{row: &row{name: "X", figures: fanOut(1, "", "", "", "")}}
	bad := ran(5, 2)
	bad.Errors.Lost = 1
	for _, m := range []*measurement{ran(5, 0), bad, ran(5, 0), ran(5, 0)} {
		r.add(m, 3)
	}
	if !r.failed() || r.verdict(&r.row.figures[0]) != "ERRORS" {
		t.Errorf("failed %t, verdict %s", r.failed(), r.verdict(&r.row.figures[0]))
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		goal   float64
		atMost bool
		want   string
	}{
		"reached":      {50, false, "met"},
		"exactly":      {50, true, "met"},
		"short":        {100, false, "0.50 of it"},
		"below limit":  {60, true, "met"},
		"above limit":  {25, true, "2.00 of it"},
		"without goal": {0, false, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := result{row: &row{}}
			r.add(ran(50, 0), 1)
			if got := r.verdict(&figure{goal: test.goal, atMost: test.atMost, value: perCPU}); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestRows: every row can be written, and its flags are those of the program.
func TestRows(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range rows() {
		if seen[r.name] || len(r.figures) == 0 {
			t.Errorf("row %q is there twice or has no figure", r.name)
		}
		seen[r.name] = true
		m := ran(1000, 0)
		m.Traffic.Published = 32_000
		m.Probe = &bench.Probe{Ratio: 2}
		m.Stalled = &bench.Stalled{}
		m.Idle, m.Connect = &bench.Usage{Seconds: 1}, bench.Connect{Sockets: 1, Usage: bench.Usage{Seconds: 1}}
		m.resumed = &resumed{returns: bench.Usage{Processes: []bench.Process{{CPU: 1}}}}
		if strings.HasPrefix(r.name, "P ") {
			m.published = make([]publishes, 2*len(publishWays))
		}
		if strings.HasPrefix(r.name, "X ") {
			m.siege, m.first = &siege{ends: map[string]int{goneSilently: foes}}, []bench.Report{{Usage: m.Usage}}
		}
		for range r.first {
			m.first = append(m.first, bench.Report{Usage: m.Usage, Stalled: m.Stalled})
		}
		for range r.nodes + 1 {
			m.Usage.Processes = append(m.Usage.Processes, bench.Process{CPU: 1})
			m.idle = append(m.idle, idleFor/10)
		}
		found := result{row: &r}
		found.add(m, 1)
		var b strings.Builder
		if err := writeReport(&b, &options{}, []result{found}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(b.String(), "\n") {
			if strings.HasPrefix(line, "| "+r.name+" | "+r.what) && strings.Count(line, "|") != 12 {
				t.Errorf("a line of the wrong width: %s", line)
			}
		}
		again := "roomcast bench " + strings.Join(r.flags, " ")
		if r.run != nil {
			again = "make bench-table ROWS='" + r.name + "'"
		}
		if !strings.Contains(b.String(), again) {
			t.Errorf("%s: the flags are not in the report:\n%s", r.name, b.String())
		}
	}
}

func TestPerMessage(t *testing.T) {
	t.Parallel()
	m := ran(0, 0)
	m.Usage.Seconds = idleFor.Seconds()
	m.Traffic.Published = 32_000
	m.Usage.Processes = []bench.Process{{CPU: 2.88}, {CPU: 0.1}, {CPU: 0.32}}
	m.idle = append(m.idle, 0, idleFor/80, 0)
	figures := figuresOfF()
	for i, want := range []string{"0.00 µs", "3.12 µs", "100 µs"} {
		if got := figures[i].unit.text(figures[i].value(m)); got != want {
			t.Errorf("%s: got %s, want %s", figures[i].what, got, want)
		}
	}
}

// TestAgainstRaw: rows are compared with the raw row that they name, if it was measured.
func TestAgainstRaw(t *testing.T) {
	t.Parallel()
	of := func(r row, perCPU float64) result {
		found := result{row: &r}
		found.add(ran(perCPU, 0), 1)
		return found
	}
	raw, c, f := of(row{name: rawCold}, 100), of(row{name: "C", against: rawCold}, 87), of(row{name: "F"}, 50)
	tests := map[string]struct {
		results []result
		want    string
	}{
		"measured":     {[]result{raw, c, f}, "C: 0.87 times as many deliveries per CPU s as raw cold has calls, in this session.\n\n"},
		"not measured": {[]result{c, f}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if writeAgainstRaw(&b, test.results); b.String() != test.want {
				t.Errorf("got %q, want %q", b.String(), test.want)
			}
		})
	}
}

// TestErrorsOfTheFirstRuns: what a row is compared with must be good as well.
func TestErrorsOfTheFirstRuns(t *testing.T) {
	t.Parallel()
	m := ran(5, 0)
	m.first = []bench.Report{{Usage: bench.Usage{Seconds: 1, Other: 1}, Errors: bench.Errors{Gaps: 1}}}
	r := result{row: &row{figures: fanOut(1, "", "", "", "")}}
	r.add(m, 1)
	if !r.failed() || r.verdict(&r.row.figures[0]) != "ERRORS" || r.undisturbed(0.08) != 0 {
		t.Errorf("failed %t, %d undisturbed runs, want a failed and disturbed row", r.failed(), r.undisturbed(0.08))
	}
	if got := r.row.summary(m); !strings.Contains(got, "Gaps:1") {
		t.Errorf("the summary hides it: %s", got)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		wanted string
		want   string
	}{
		"all": {"", "B1 B2(64) B2(8) raw hot raw cold C D unary ephemeral D unary stored D stream ephemeral D stream stored F H S " +
			"G ring one room G ring 1000 rooms G log one room G log 1000 rooms P R1 P R3 A A' A' tokens A TLS E E tokens X nothing X half request X slow request X no token X half frame X deaf X byte by byte"},
		"some":    {"B2, F", "B2(64) B2(8) F"},
		"a pair":  {"raw cold,C", "raw cold C"},
		"one":     {"D stream stored", "D stream stored"},
		"unknown": {"B1,Z", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chosen, err := choose(rows(), test.wanted)
			var names []string
			for _, r := range chosen {
				names = append(names, r.name)
			}
			if got := strings.Join(names, " "); got != test.want || (err == nil) == (test.want == "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		count.text(1_234_567): "1.23 M", count.text(234_567): "235 k", count.text(12_345): "12.3 k", count.text(999): "999",
		milliseconds.text(1234.5): "1234 ms", milliseconds.text(84.44): "84.4 ms", microseconds.text(0.314): "0.31 µs", microseconds.text(-0.001): "0.00 µs", microseconds.text(-0.71): "-0.71 µs",
		times.text(4.567): "4.57 ×", percent.text(7.96): "8.0 %",
	}
	for got, want := range tests {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
