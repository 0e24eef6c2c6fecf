package architecture

import (
	"go/ast"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines     = 500 // one job a file
	maxFunctionLines = 80  // aim for 10 to 30
)

// topLevel lists what may lie at the repository's top level, besides names that
// begin with a dot.
func topLevel() []string {
	return []string{
		"proto", "cmd", "internal", "gen", "client", "docs", "deploy", "test",
		"buf.yaml", "buf.gen.yaml", "go.mod", "go.sum", "Makefile",
		"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
	}
}

func TestTopLevel(t *testing.T) {
	t.Parallel()
	// The test cache cannot see what git reads; reading the directory here makes a new entry run the test again.
	if _, err := os.ReadDir(root); err != nil {
		t.Fatal(err)
	}
	git := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	listed, err := git.Output()
	if err != nil {
		t.Fatalf("%s: %v", git, err)
	}
	odd := map[string]bool{}
	for _, name := range strings.FieldsFunc(string(listed), func(r rune) bool { return r == 0 }) {
		first, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(first, ".") && !slices.Contains(topLevel(), first) {
			odd[first] = true
		}
	}
	for name := range odd {
		t.Errorf("%s lies at the top level and is not on the list; put it below docs, deploy, internal or test", name)
	}
}

func TestFileAndFunctionLength(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t) {
		if src.test() || ast.IsGenerated(src.file) {
			continue
		}
		if lines := src.line(src.file.FileEnd - 1); lines > maxFileLines {
			t.Errorf("%s: got %d lines, want at most %d: one job a file", src.path, lines, maxFileLines)
		}
		ast.Inspect(src.file, func(node ast.Node) bool {
			switch node.(type) {
			case *ast.FuncDecl, *ast.FuncLit:
			default:
				return true
			}
			first, last := src.line(node.Pos()), src.line(node.End())
			if lines := last - first + 1; lines > maxFunctionLines {
				t.Errorf("%s:%d: got a function of %d lines, want at most %d", src.path, first, lines, maxFunctionLines)
			}
			return true
		})
	}
}

func TestPackageComment(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, src := range sources(t) {
		if src.test() || ast.IsGenerated(src.file) {
			continue
		}
		documented[src.pkg] = documented[src.pkg] || src.file.Doc != nil
	}
	for pkg, has := range documented {
		if !has {
			t.Errorf("%s: no file has a package comment; write doc.go: what the package does and what it must never do", pkg)
		}
	}
}
