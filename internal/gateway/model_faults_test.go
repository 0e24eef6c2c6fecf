package gateway

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mistake is what somebody could get wrong: in a file, one text in place of another.
type mistake struct{ file, right, wrong string }

// TestModelFindsFaults plants faults, one at a time, and demands that TestModel finds
// each. They are in copies that only the compiler sees.
func TestModelFindsFaults(t *testing.T) {
	t.Parallel()
	tests := map[string][]mistake{
		"a message is skipped": {{
			"../hub/lane.go",
			"c.spot.next += uint64(n)\n", "c.spot.next = min(c.spot.next+uint64(n)+1, w.end)\n",
		}},
		"a message is repeated": {{
			"../hub/plan.go",
			"p.c.spot = p.after[n-1]\n", "p.c.spot = p.after[max(n-2, 0)]\n",
		}},
		"a frame is torn": {{
			"writer.go",
			"w.unsent = append(w.unsent, frames[taken][n:]...)\n\t\ttaken++\n", "taken++\n",
		}},
		"a frame follows unsubscribed": {
			{"writer.go", "s.w.closing || c.Left()", "s.w.closing"},
			{"../hub/lane.go", "if c.left.Load() {\n\t\treturn Current\n\t}\n", ""},
			{"../hub/lane.go", "case c.left.Load() || c.spot.next", "case c.spot.next"},
		},
		"a wake-up is lost: a removal hides a cursor": {{
			"../hub/part.go",
			"if hole < p.visited {", "if p.visited = min(p.visited, len(p.cursors)-1); hole < 0 {",
		}},
		"a wake-up is lost: signals during a turn": {{
			"flusher.go",
			"t.session.queued.Store(false)\n\t\tmore = t.session.guardedTurn(time.Now())\n",
			"more = t.session.guardedTurn(time.Now())\n\t\tt.session.queued.Store(false)\n",
		}},
		"a wake-up is lost: news during a round": {{
			"../hub/part.go",
			"done = p.target == end && !p.again", "done = !p.again",
		}},
		"a wake-up is lost: news during a turn": {{
			"../hub/lane.go",
			"case c.spot.next == r.ring.end:\n\t\tc.part.add(c)\n\tdefault:", "case true:\n\t\tc.part.add(c)\n\tdefault:",
		}},
		"a page serves another place": {{
			"../hub/shelf.go",
			"return lo + 1, lo < len(pg.entries) && pg.entries[lo].msg.Position == pos", "return lo + 1, lo < len(pg.entries)",
		}},
		"who shares a page is not told of it": {{
			"../hub/reads.go",
			"if a.after == after || !exact && a.covers(after) {\n\t\t\ta.waiters = append(a.waiters, c)\n",
			"if a.after == after || !exact && a.covers(after) {\n",
		}},
		"a torn ring proves what it does not hold": {{
			"../hub/ring.go",
			"if g.torn && (", "if false && (",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := build(t, test)
			out, err := exec.CommandContext(t.Context(), program, "-test.run", "^TestModel$", "-test.timeout", "150s", "-seeds", "2000").CombinedOutput()
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

// build compiles the tests with the mistakes in them.
func build(t *testing.T, mistakes []mistake) (program string) {
	t.Helper()
	dir := t.TempDir()
	replaced := make(map[string]string)
	for i, m := range mistakes {
		path, err := filepath.Abs(m.file)
		if err != nil {
			t.Fatal(err)
		}
		from := m.file
		if replaced[path] != "" {
			from = replaced[path]
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), m.right); n != 1 {
			t.Fatalf("%s has the text %d times, want once: %s", m.file, n, m.right)
		}
		replaced[path] = filepath.Join(dir, strconv.Itoa(i)+".go")
		write(t, replaced[path], strings.Replace(string(source), m.right, m.wrong, 1))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "gateway.test")
	write(t, list, string(overlay))
	compile := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", list, "-ldflags", "-s -w", "-o", program, ".")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compile, err, out)
	}
	return program
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// firstFailure is what the first seed said that failed.
func firstFailure(out string) string {
	lines := strings.SplitN(out, "\n", 6)
	return strings.TrimSpace(strings.Join(lines[min(2, len(lines)-1):min(4, len(lines))], " "))
}
