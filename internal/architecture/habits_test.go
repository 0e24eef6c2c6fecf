package architecture

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// skipLine is a script test's command that would end it early.
var skipLine = regexp.MustCompile(`(?m)^\s*(\[[^\]]*\]\s*)*skip\b`)

// TestNoSleepNoSkip keeps the suite honest: a sleep makes a test slow on one
// machine and wrong on another, a skip makes a green run prove nothing. Inside a
// synctest bubble time is virtual, so a *_virtual_test.go file may sleep.
func TestNoSleepNoSkip(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t) {
		if !src.test() {
			continue
		}
		virtual := strings.HasSuffix(src.path, "_virtual_test.go")
		ast.Inspect(src.file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			receiver, method := called(call)
			switch {
			case receiver == "time" && method == "Sleep" && !virtual:
				src.complain(t, call.Pos(), "sleeps; wait for the condition with nodetest.Eventually, or use a bubble in a *_virtual_test.go file")
			case len(receiver) <= 2 && (method == "Skip" || method == "Skipf" || method == "SkipNow"):
				src.complain(t, call.Pos(), "skips; what a test needs and does not find is a failure")
			}
			return true
		})
	}
}

func TestNoSkipInScripts(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != root && base != "testdata" && skipped(base) {
				return filepath.SkipDir
			}
			return nil
		}
		if ext := filepath.Ext(name); ext != ".txtar" && ext != ".txt" {
			return nil
		}
		script, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if skipLine.Match(script) && strings.Contains(filepath.ToSlash(name), "/testdata/") {
			t.Errorf("%s skips; what a test needs and does not find is a failure", name)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
}

// called splits a call like time.Sleep(…) into its two names; both are empty for
// any other form.
func called(call *ast.CallExpr) (receiver, method string) {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	name, ok := selector.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return name.Name, selector.Sel.Name
}

func (s source) complain(t *testing.T, pos token.Pos, what string) {
	t.Helper()
	t.Errorf("%s:%d: %s", s.path, s.line(pos), what)
}
