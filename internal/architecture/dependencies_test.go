package architecture

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// listedModule is the first cell of a table row in docs/dependencies.md.
var listedModule = regexp.MustCompile("(?m)^\\| `([^`]+)`")

// requirement is what `go mod edit -json` says of one go.mod.
type requirement struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

// TestDependenciesHaveReasons compares docs/dependencies.md with both go.mod
// files: each direct dependency and each tool has a row, and no row is stale.
func TestDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	const page = "docs/dependencies.md"
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, match := range listedModule.FindAllStringSubmatch(string(text), -1) {
		rows[match[1]] = true
	}

	known := map[string]bool{}
	for _, file := range []string{"go.mod", "internal/tools/go.mod"} {
		mod := readModule(t, file)
		for _, need := range mod.Require {
			known[need.Path] = true
			if !need.Indirect && !rows[need.Path] {
				t.Errorf("%s requires %s: give it a row in %s with its reason and size", file, need.Path, page)
			}
		}
		for _, tool := range mod.Tool {
			if !hasModuleOf(rows, tool.Path) {
				t.Errorf("%s has the tool %s: give its module a row in %s", file, tool.Path, page)
			}
		}
	}
	for row := range rows {
		if !known[row] && row != golangci {
			t.Errorf("%s lists %s, which no go.mod requires", page, row)
		}
	}
}

// golangci is installed by the Makefile at its own version: its dependencies
// would hold the other tools back.
const golangci = "github.com/golangci/golangci-lint/v2"

// readModule reads a go.mod with the go command, which knows its grammar.
func readModule(t *testing.T, file string) requirement {
	t.Helper()
	name := filepath.Join(root, filepath.FromSlash(file))
	// Read for the test cache, which does not see what the go command reads.
	if _, err := os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	edit := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", name)
	out, err := edit.Output()
	if err != nil {
		t.Fatalf("%s: %v", edit, err)
	}
	var mod requirement
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatalf("%s: %v", edit, err)
	}
	return mod
}

// hasModuleOf reports whether a row names the module that holds a package.
func hasModuleOf(rows map[string]bool, pkg string) bool {
	for pkg != "" {
		if rows[pkg] {
			return true
		}
		cut := strings.LastIndex(pkg, "/")
		if cut < 0 {
			return false
		}
		pkg = pkg[:cut]
	}
	return false
}
