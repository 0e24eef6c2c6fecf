package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// result is what the runs of a row have found: the least disturbed ones.
type result struct {
	row  *row
	runs []*measurement
}

// add keeps a report if it is among the keep least disturbed ones. A run with errors
// is kept before all others: it must not vanish.
func (r *result) add(report *measurement, keep int) {
	r.runs = append(r.runs, report)
	slices.SortStableFunc(r.runs, func(a, b *measurement) int {
		if a.failed() != b.failed() {
			return map[bool]int{true: -1, false: 1}[a.failed()]
		}
		return cmp.Compare(disturbance(a), disturbance(b))
	})
	r.runs = r.runs[:min(len(r.runs), keep)]
}

// undisturbed is how many runs were disturbed by at most a share of the machine.
func (r *result) undisturbed(share float64) (n int) {
	for _, report := range r.runs {
		if disturbance(report) <= share {
			n++
		}
	}
	return n
}

func (r result) failed() bool {
	return slices.ContainsFunc(r.runs, (*measurement).failed)
}

// values are a figure's in all runs, sorted.
func (r *result) values(f *figure) []float64 {
	values := make([]float64, 0, len(r.runs))
	for _, report := range r.runs {
		values = append(values, f.value(report))
	}
	slices.Sort(values)
	return values
}

// median of sorted values.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// summary is one run in a line.
func (r *row) summary(report *measurement) string {
	var parts []string
	for _, f := range r.figures {
		parts = append(parts, f.unit.text(f.value(report))+" "+f.what)
	}
	for _, run := range report.reports() {
		if run.Errors.Any() {
			parts = append(parts, fmt.Sprintf("ERRORS %+v", run.Errors))
		}
	}
	return strings.Join(parts, ", ")
}

// writeReport writes the table, what the runs looked like from within, and how they
// were started.
func writeReport(w io.Writer, o *options, results []result) error {
	_, err := fmt.Fprintf(w, "%s\n\nMedian of %d runs of %s after %s of warm-up (least to greatest).\n\n", machine(), o.runs, o.duration, o.warmup)
	if err == nil {
		err = writeTable(w, results)
	}
	if err == nil {
		err = writeDetails(w, results)
	}
	return err
}

func writeTable(w io.Writer, results []result) error {
	var b strings.Builder
	b.WriteString("| | load | figure | measured | goal | | Centrifugo | naive hub | NATS WebSocket | prototype | other load |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		name, what, other := r.row.name, r.row.what, r.measured(&figure{unit: percent, value: otherLoad})
		for _, f := range r.row.figures {
			cells := slices.Concat([]string{name, what, f.what, r.measured(&f), f.goalText(), r.verdict(&f)}, f.peers[:], []string{other})
			b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
			name, what, other = "", "", ""
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *result) measured(f *figure) string {
	values := r.values(f)
	return fmt.Sprintf("**%s** (%s – %s)", f.unit.text(median(values)), f.unit.text(values[0]), f.unit.text(values[len(values)-1]))
}

func (f *figure) goalText() string {
	switch {
	case f.says != "":
		return f.says
	case f.goal == 0:
		return "quoted"
	case f.atMost:
		return "≤ " + f.unit.text(f.goal)
	default:
		return "≥ " + f.unit.text(f.goal)
	}
}

// verdict compares the median with the goal.
func (r *result) verdict(f *figure) string {
	value := median(r.values(f))
	switch {
	case r.failed():
		return "ERRORS"
	case f.goal == 0:
		return ""
	case f.atMost && value <= f.goal, !f.atMost && value >= f.goal:
		return "met"
	default:
		return fmt.Sprintf("%.2f of it", value/f.goal)
	}
}

// details are the columns of every row, for comparing and for doubting.
func details() []figure {
	return []figure{
		{what: "published/s", value: func(r *measurement) float64 { return r.Traffic.PublishedPerSecond }},
		{what: "deliveries/s", value: func(r *measurement) float64 { return r.Traffic.DeliveriesPerSecond }},
		{what: "deliveries per CPU s", value: perCPU},
		{what: "messages a read", value: func(r *measurement) float64 { return r.Traffic.MessagesPerRead }},
		{what: "p50", unit: milliseconds, value: func(r *measurement) float64 { return r.Delivery.P50 }},
		{what: "p99", unit: milliseconds, value: func(r *measurement) float64 { return r.Delivery.P99 }},
		{what: "last p50", unit: milliseconds, value: func(r *measurement) float64 { return r.Last.P50 }},
		{what: "service CPU s", unit: seconds, value: func(r *measurement) float64 { return r.Usage.CPU }},
		{what: "load CPU s", unit: seconds, value: func(r *measurement) float64 { return r.Usage.Self }},
		{what: "RSS", unit: megabytes, value: rss},
		{what: "connects/s", value: func(r *measurement) float64 { return r.Connect.PerSecond }},
		{what: "other load", unit: percent, value: otherLoad},
	}
}

func otherLoad(r *measurement) float64 { return 100 * disturbance(r) }

func rss(r *measurement) (megabytes float64) {
	for _, p := range r.Usage.Processes {
		megabytes += float64(p.RSS) / 1e6
	}
	return megabytes
}

func writeDetails(w io.Writer, results []result) error {
	var b strings.Builder
	b.WriteString("\n| |")
	for _, f := range details() {
		b.WriteString(" " + f.what + " |")
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(details())) + "|\n")
	for _, r := range results {
		if r.row.run != nil {
			continue // it has figures of its own
		}
		b.WriteString("| " + r.row.name + " |")
		for _, f := range details() {
			b.WriteString(" " + f.unit.text(median(r.values(&f))) + " |")
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nOther load is the share of the machine's processor time that neither the service nor the load generator used.\n" +
		"A row with much of it shows how the service does when it gets no processor, and little else.\n\n")
	writeAgainstRaw(&b, results)
	writePublishes(&b, results)
	writeSieges(&b, results)
	for _, r := range results {
		if r.row.run != nil {
			fmt.Fprintf(&b, "    %-20s make bench-table ROWS='%s'\n", r.row.name, r.row.name)
			continue
		}
		for _, flags := range append(slices.Clip(r.row.first), r.row.flags) {
			fmt.Fprintf(&b, "    %-20s roomcast bench %s\n", r.row.name, strings.Join(flags, " "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeAgainstRaw compares rows with the raw writer of the same session.
func writeAgainstRaw(b *strings.Builder, results []result) {
	perCPU := &figure{value: perCPU}
	for _, raw := range results {
		for _, r := range results {
			if r.row.against == raw.row.name {
				ratio := median(r.values(perCPU)) / median(raw.values(perCPU))
				fmt.Fprintf(b, "%s: %.2f times as many deliveries per CPU s as %s has calls, in this session.\n\n", r.row.name, ratio, raw.row.name)
			}
		}
	}
}

// machine says where the figures are from.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			model = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), ":"))
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	commit, _ := exec.Command("git", "rev-parse", "--short", "HEAD").Output() //nolint:noctx // instant
	return fmt.Sprintf("%s, %d processors, %s %s, %s, commit %s",
		model, runtime.NumCPU(), runtime.GOOS, strings.TrimSpace(string(kernel)), runtime.Version(), strings.TrimSpace(string(commit)))
}
