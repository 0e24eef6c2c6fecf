package bench

import (
	"fmt"
	"io"
	"strings"
)

// barWidth is the longest bar of a histogram, in characters.
const barWidth = 40

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("load", "%s", r.Load.text())
	line("connected", "%d sockets in %.2f s (%.0f/s)", r.Connect.Sockets, r.Connect.Usage.Seconds, r.Connect.PerSecond)
	if u := &r.Connect.Usage; len(u.Processes) > 0 {
		line("", "%.1f µs of the service's processor time each; load %.2f, other %.2f CPU s", 1e6*r.Connect.CPUEach(), u.Self, u.Other)
	}
	if u := r.Idle; u != nil && len(u.Processes) > 0 {
		line("idle", "%.2f KB each after %.0f s; %.2f %% of a processor", r.Connect.RSSEach(u)/1e3, u.Seconds, 100*u.CPU/u.Seconds)
	}
	t := &r.Traffic
	line("measured", "%.2f s after %.2f s of warm-up", r.Usage.Seconds, r.Warmup)
	line("published", "%d messages (%.0f/s)", t.Published, t.PublishedPerSecond)
	line("delivered", "%d (%.0f/s, %.1f MB/s, %.1f a read)", t.Deliveries, t.DeliveriesPerSecond, t.BytesPerSecond/1e6, t.MessagesPerRead)
	r.writeUsage(line)
	if s := r.Stalled; s != nil {
		line("stalled", "%s", s.text())
		line("memory", "before: %s", s.Before.text())
		line("", "stalled: %s", s.During.text())
		line("", "after: %s", s.After.text())
	}
	b.WriteString("\nlatency to each delivery\n")
	r.Delivery.write(&b)
	b.WriteString("\nlatency to a message's last delivery\n")
	r.Last.write(&b)
	if p := r.Probe; p != nil {
		fmt.Fprintf(&b, "\nprobe, %.0f messages/s to a room with one socket: p99 %.2f ms alone, %.2f ms beside the load (%.1f times)\n",
			p.Rate, p.Alone.P99, p.Beside.P99, p.Ratio)
		b.WriteString("alone\n")
		p.Alone.write(&b)
		b.WriteString("beside\n")
		p.Beside.write(&b)
	}
	b.WriteByte('\n')
	r.Errors.write(line)
	_, err := io.WriteString(w, b.String())
	return err
}

func (l *LoadReport) text() string {
	s := fmt.Sprintf("%d rooms, %d sockets, %d in flight, %s by %d, %d bytes", l.Rooms, l.Sockets, l.InFlight, l.Mode, l.Publishers, l.Payload)
	if l.Stalled > 0 {
		s += fmt.Sprintf(", %d more that stall", l.Stalled)
	}
	if l.Rate > 0 {
		s += fmt.Sprintf(", %g messages/s", l.Rate)
	}
	return s
}

func (r *Report) writeUsage(line func(name, format string, args ...any)) {
	u := &r.Usage
	for _, p := range u.Processes {
		line(fmt.Sprintf("pid %d", p.PID), "%.2f CPU s (%.2f user, %.2f system), %.1f MB", p.CPU, p.User, p.System, float64(p.RSS)/1e6)
	}
	if len(u.Processes) > 0 {
		line("service", "%.0f deliveries a CPU s; %.2f CPU s; load %.2f, other %.2f",
			r.Traffic.DeliveriesPerCPU, u.CPU, u.Self, u.Other)
	}
}

// write writes the quantiles and a bar for each power of two.
func (l *Latency) write(b *strings.Builder) {
	if l.Count == 0 {
		b.WriteString("  nothing was delivered\n")
		return
	}
	fmt.Fprintf(b, "  p50 %.2f  p90 %.2f  p99 %.2f  p99.9 %.2f  max %.2f  mean %.2f ms\n", l.P50, l.P90, l.P99, l.P999, l.Max, l.Mean)
	most := uint64(0)
	for _, bar := range l.Bars {
		most = max(most, bar.Count)
	}
	for _, bar := range l.Bars {
		width := int(float64(bar.Count) / float64(most) * barWidth)
		text := strings.TrimRight(fmt.Sprintf("  to %9.3f ms %12d %s", bar.UpTo, bar.Count, strings.Repeat("#", width)), " ")
		b.WriteString(text + "\n")
	}
}

func (e *Errors) write(line func(name, format string, args ...any)) {
	if !e.Any() {
		line("errors", "none: every socket got every message once, in order")
		return
	}
	line("errors", "lost %d, duplicated %d, reordered %d, closed sockets %d, gaps %d, refused %d, unfinished %d, unexpected %d",
		e.Lost, e.Duplicated, e.Reordered, e.Closed, e.Gaps, e.Refused, e.Unfinished, e.Unexpected)
	for _, example := range e.Examples {
		line("", "%s", example)
	}
}
