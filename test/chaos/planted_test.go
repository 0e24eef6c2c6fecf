package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// plantedBug is a mistake in the product that only some rooms suffer from: those whose
// names begin with its first four letters (of rooms with a short history, the letters
// after the prefix).
type plantedBug struct {
	rooms string
	finds []What // one of them must be found
	edits []edit
}

// edit is what somebody could get wrong: in a file, one text in place of another.
type edit struct{ file, right, wrong string }

// plantedBugs are eight mistakes where each could be made. They are in copies of the
// sources that only the compiler sees (go build -overlay): no build tag, no hook and no
// line of the product has to know of them, and one that no longer fits its source fails
// the test.
func plantedBugs() map[string]plantedBug {
	const appended = "\t}\n\tr.push(e)\n}\n\n// Break says"
	return map[string]plantedBug{
		"drop": {"drop", []What{SilentGap}, []edit{{
			"internal/hub/room.go", appended,
			"\t}\n\tif r.Name[:4] == \"drop\" && m.Position.Seq%5 == 0 {\n\t\treturn\n\t}\n\tr.push(e)\n}\n\n// Break says",
		}}},
		"duplicate": {"dupl", []What{Twice}, []edit{{
			"internal/bus/live.go",
			"\tlr.sink.Append(m)\n}\n", "\tlr.sink.Append(m)\n\tif m.Room[:4] == \"dupl\" && m.Position.Seq%5 == 0 {\n\t\tlr.sink.Append(m)\n\t}\n}\n",
		}}},
		"swap": {"swap", []What{Reordered}, []edit{
			{
				"internal/bus/live.go",
				"\tlost    int       // messages", "\tkept *room.Message\n\tlost    int       // messages",
			},
			{
				"internal/bus/live.go",
				"\tlr.head, lr.touched = m.Position, s.now\n",
				"\tlr.head, lr.touched = m.Position, s.now\n\tif m.Room[:4] == \"swap\" {\n\t\tswitch kept := lr.kept; {\n\t\tcase kept != nil:\n\t\t\tlr.kept = nil\n\t\t\tdefer lr.sink.Append(kept)\n\t\tcase m.Position.Seq%5 == 0:\n\t\t\tlr.kept = m\n\t\t\treturn\n\t\t}\n\t}\n",
			},
		}},
		"silent gap": {"short:g", []What{SilentGap}, []edit{{
			"internal/bus/replay.go",
			"\tpage.Gap = room.Truncated\n\treturn page.cut(limit), nil\n",
			"\tif l.name[:7] != \"short:g\" {\n\t\tpage.Gap = room.Truncated\n\t}\n\treturn page.cut(limit), nil\n",
		}}},
		"wrong room": {"wron", []What{WrongRoom}, []edit{{
			"internal/bus/live.go",
			"\tif m.IsPurge() {\n\t\tlr.sink", "\tif m.Room == \"wron 0\" {\n\t\tm.Room = \"wron 1\"\n\t}\n\tif m.IsPurge() {\n\t\tlr.sink",
		}}},
		"off by one at resume": {"offb", []What{SilentGap, LostTail}, []edit{{
			"internal/hub/room.go",
			"if next, ok := r.ring.find(after); ok {\n",
			"if next, ok := r.ring.find(after); ok {\n\t\tif r.Name[:4] == \"offb\" && next < r.ring.end {\n\t\t\tnext++\n\t\t}\n",
		}}},
		"lost tail after reconnect": {"tail", []What{LostTail}, []edit{
			{
				"internal/bus/resync.go",
				"\t\tcase lr.log.stream == nil:\n",
				"\t\tcase lr.log.stream == nil:\n\t\tcase lr.log.name[:4] == \"tail\" && lr.sub != nil:\n\t\t\t_ = lr.sub.Unsubscribe()\n",
			},
			{
				"internal/bus/audit.go",
				"if lr.log.stream != stream || lr.state != ready {", "if lr.log.stream != stream || lr.state != ready || lr.log.name[:4] == \"tail\" {",
			},
		}},
		"duplicate id in another room": {"same", []What{AckedLost}, []edit{{
			"internal/bus/record.go",
			"append(append(buf[:0], n...), 0)", "append(append(buf[:0], map[bool]room.Name{true: \"same\", false: n}[n[:4] == \"same\"]...), 0)",
		}}},
	}
}

// TestPlantedBugs runs a program with eight bugs, each in rooms of its own, beside rooms
// without. The checker must find every one, and nothing in the others. On a machine that
// is so slow that a bug has no occasion in a run, it has another one.
func TestPlantedBugs(t *testing.T) {
	t.Parallel()
	program := filepath.Join(built.dir, "planted")
	if err := buildProgram(program, "./cmd/roomcast", "-overlay", overlay(t)); err != nil {
		t.Fatal(err)
	}
	rooms := []string{"well 0", "well 1", "well 2", "short:w0", "short:w1"}
	for _, bug := range plantedBugs() {
		for i := range 2 {
			name := fmt.Sprint(bug.rooms, " ", i)
			rooms = append(rooms, name)
		}
	}
	slices.Sort(rooms)
	var steps []Step
	for i := range 2 * clusterSize {
		at := time.Duration(i+1) * 600 * time.Millisecond
		steps = append(steps, Step{At: at, Fault: CutBus, Target: i % clusterSize}, Step{At: at, Fault: CutSockets, Target: i % clusterSize})
	}
	broken := func(room string) bool {
		for _, bug := range plantedBugs() {
			if strings.HasPrefix(room, bug.rooms) {
				return true
			}
		}
		return false
	}
	left := plantedBugs()
	for seed := uint64(2); len(left) > 0 && seed < 10; seed += 2 { // an even one: messages are lost
		r := newRun(t, plan{seed: seed, program: program, rooms: rooms, sockets: 60, seats: 8, steps: steps, broken: broken})
		r.run()
		found := Check(&r.story)
		for name, bug := range left {
			i := slices.IndexFunc(found, func(f Fault) bool {
				return strings.HasPrefix(f.Room, bug.rooms) && slices.Contains(bug.finds, f.What)
			})
			if i >= 0 {
				t.Logf("%s: %s: %s: %s%s", name, found[i].Room, found[i].What, found[i].Detail, r.around(found[i], 4))
				delete(left, name)
			}
		}
		r.report(slices.DeleteFunc(found, func(f Fault) bool { return broken(f.Room) }))
		t.Log(r.summary())
		r.cluster.stop()
	}
	for name := range left {
		t.Errorf("%s: not found", name)
	}
}

// overlay writes the sources with the bugs in them and returns the list for the compiler.
func overlay(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	texts := make(map[string]string)
	for name, bug := range plantedBugs() {
		for _, e := range bug.edits {
			file, err := filepath.Abs(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if texts[file] == "" {
				source, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				texts[file] = string(source)
			}
			if n := strings.Count(texts[file], e.right); n != 1 {
				t.Fatalf("%s: %s has the text %d times, want once: %s", name, e.file, n, e.right)
			}
			texts[file] = strings.Replace(texts[file], e.right, e.wrong, 1)
		}
	}
	replaced := make(map[string]string)
	for file, text := range texts {
		replaced[file] = filepath.Join(dir, fmt.Sprint(len(replaced))+".go")
		write(t, replaced[file], text)
	}
	list, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "overlay.json")
	write(t, path, string(list))
	return path
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
