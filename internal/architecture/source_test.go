package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// root is the repository, as seen from this package's directory.
const root = "../.."

// module is the import path that go.mod declares.
const module = "github.com/roomcast/roomcast"

// source is one parsed Go file.
type source struct {
	path string // slash-separated, from the repository's root
	pkg  string // its directory: "internal/hub"
	fset *token.FileSet
	file *ast.File
}

// test reports whether the file is compiled for tests only.
func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// imports lists the file's import paths.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

// line is the line that pos is on, in the file as it lies on disk.
func (s source) line(pos token.Pos) int { return s.fset.PositionFor(pos, false).Line }

// sources parses every Go file of the repository, those for other systems too,
// which `go list` would leave out. It walks the tree itself because the test
// cache sees the directories that a test reads, not those that git reads for it.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && skipped(entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		found = append(found, source{path: rel, pkg: path.Dir(rel), fset: fset, file: file})
		return nil
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
	if len(found) == 0 {
		t.Fatal("found no Go file, so nothing was checked")
	}
	return found
}

// skipped reports whether a directory holds no source of ours.
func skipped(dir string) bool {
	switch dir {
	case "bin", "dist", "node_modules", "testdata":
		return true
	}
	return strings.HasPrefix(dir, ".")
}
