package architecture

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var namedTest = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// TestPromisesHaveTests looks for the tests that docs/reliability.md names: a promise
// whose test is gone is one that nobody keeps.
func TestPromisesHaveTests(t *testing.T) {
	t.Parallel()
	const page = "docs/reliability.md"
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]bool)
	for _, src := range sources(t) {
		for _, decl := range src.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && src.test() && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = true
			}
		}
	}
	names := namedTest.FindAllStringSubmatch(string(text), -1)
	if len(names) == 0 {
		t.Fatalf("%s names no test", page)
	}
	for _, name := range names {
		if !tests[name[1]] {
			t.Errorf("%s names %s, which no package has", page, name[1])
		}
	}
}
