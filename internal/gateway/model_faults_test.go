package gateway

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fault is a mistake that somebody could make: in a file, this text in place of that.
type fault struct{ file, text, mistake string }

// TestModelFindsFaults plants faults, one at a time, and demands that TestModel finds
// each. They are in copies that only the compiler sees.
func TestModelFindsFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]fault{
		"a walk skips a message": {
			"../hub/lane.go",
			"c.spot.next += uint64(n)\n", "c.spot.next = min(c.spot.next+uint64(n)+1, w.end)\n",
		},
		"a plan repeats a message": {
			"../hub/plan.go",
			"p.c.spot = p.after[n-1]\n", "p.c.spot = p.after[max(n-2, 0)]\n",
		},
		"a frame is torn": {
			"writer.go",
			"w.unsent = append(w.unsent, frames[taken][n:]...)\n\t\ttaken++\n", "taken++\n",
		},
		"a frame follows unsubscribed": {
			"writer.go",
			"s.w.closing || c.Left()", "s.w.closing",
		},
		"a removal hides a cursor from the walk": {
			"../hub/part.go",
			"if hole < p.visited {", "if hole < 0 {",
		},
		"a signal during a turn is lost": {
			"flusher.go",
			"t.session.queued.Store(false)\n\t\tmore = t.session.guardedTurn(time.Now())\n",
			"more = t.session.guardedTurn(time.Now())\n\t\tt.session.queued.Store(false)\n",
		},
		"news during a walk is lost": {
			"../hub/part.go",
			"done = p.target == end && !p.again", "done = !p.again",
		},
		"a cursor goes along though news came": {
			"../hub/lane.go",
			"case c.spot.next == r.ring.end:\n\t\tc.part.add(c)\n\tdefault:", "case true:\n\t\tc.part.add(c)\n\tdefault:",
		},
		"a page is taken for the next one": {
			"../hub/shelf.go",
			"return lo + 1, lo < len(pg.entries) && pg.entries[lo].msg.Position == pos", "return lo + 1, lo < len(pg.entries)",
		},
		"a gap is told twice": {
			"../hub/plan.go",
			"p.spot.told = true\n", "",
		},
		"an excluded user gets the message": {
			"../hub/ring.go",
			"return e.gap == nil && e.msg.ExcludeUser == \"\" &&", "return e.gap == nil &&",
		},
		"who waits for a page is not told": {
			"../hub/reads.go",
			"if a.after == after || !exact && a.covers(after) {\n\t\t\ta.waiters = append(a.waiters, c)\n",
			"if a.after == after || !exact && a.covers(after) {\n",
		},
		"a torn ring proves what it does not hold": {
			"../hub/ring.go",
			"if g.torn && (", "if false && (",
		},
		"a message of before is live": {
			"../hub/plan.go",
			"e.frame(p.c.format, p.c.replayed(e.msg))", "e.frame(p.c.format, false)",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := test.build(t)
			out, err := exec.CommandContext(t.Context(), program, "-test.run", "^TestModel$", "-test.timeout", "60s", "-seeds", "400").CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() == 0 {
				t.Fatalf("it was not found: %v, %.2000s", err, out)
			}
			if !strings.Contains(string(out), "again: go test") {
				t.Errorf("something else went wrong: %.2000s", out)
			}
			t.Log(firstFailure(string(out)))
		})
	}
}

// build compiles the tests with the fault in them.
func (f fault) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), f.text); n != 1 {
		t.Fatalf("%s has the text %d times, want once: %s", f.file, n, f.text)
	}
	copied := filepath.Join(dir, "fault.go")
	if err := os.WriteFile(copied, []byte(strings.Replace(string(source), f.text, f.mistake, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(f.file)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: copied}})
	if err != nil {
		t.Fatal(err)
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "gateway.test")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", list, "-ldflags", "-s -w", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	return program
}

// firstFailure is what the first seed said that failed.
func firstFailure(out string) string {
	lines := strings.SplitN(out, "\n", 6)
	return strings.TrimSpace(strings.Join(lines[min(2, len(lines)-1):min(4, len(lines))], " "))
}
