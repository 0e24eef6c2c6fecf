package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/roomcast/roomcast/internal/room"
)

// configFile is the YAML file of --config, read strictly. A setting's key is the
// flag's name with underscores (dashes are fine too); its first words may be a
// section: "nats_url" is also "url" below "nats". The key "namespaces" exists only
// in the file.
type configFile struct {
	path       string
	entries    map[string]fileEntry // by flag name
	sections   []fileEntry
	namespaces map[string]room.Policy // nil = the file has none
}

// fileEntry is one key of the file.
type fileEntry struct {
	name  string // as a flag: dashes
	key   string // as written, sections joined by dots
	line  int
	value any // string, []any of strings, or nil for a key without a value
}

func readConfigFile(path string) (*configFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, sourceErrorf("--config: %w", err)
	}
	f := &configFile{path: path, entries: make(map[string]fileEntry)}
	root, err := parseYAML(data)
	if err != nil {
		return nil, sourceErrorf("%s: %w", path, err)
	}
	if root == nil {
		return f, nil
	}
	if err := f.walk(root, "", ""); err != nil {
		return nil, err
	}
	return f, nil
}

// parseYAML returns the one document's root, or nil for an empty file.
func parseYAML(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, fmt.Errorf("not valid YAML: %w", err)
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	if isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

func (f *configFile) errorf(node *yaml.Node, format string, args ...any) error {
	return sourceErrorf("%s:%d: %s", f.path, node.Line, fmt.Sprintf(format, args...))
}

// walk collects the keys of a mapping. name and key are the section's, with their
// separator; empty at the top.
func (f *configFile) walk(node *yaml.Node, name, key string) error {
	return f.pairs(node, strings.TrimSuffix(key, "."), func(k, v *yaml.Node) error {
		if name == "" && k.Value == "namespaces" {
			return f.readNamespaces(v)
		}
		e := fileEntry{name: name + strings.ReplaceAll(k.Value, "_", "-"), key: key + k.Value, line: k.Line}
		if v.Kind == yaml.MappingNode {
			f.sections = append(f.sections, e)
			return f.walk(v, e.name+"-", e.key+".")
		}
		var err error
		if e.value, err = f.plainValue(v, e.key); err != nil {
			return err
		}
		if first, ok := f.entries[e.name]; ok {
			return f.errorf(k, "%q is set twice; first in line %d", e.key, first.line)
		}
		f.entries[e.name] = e
		return nil
	})
}

// pairs calls fn for each key and value of a mapping and refuses what YAML has
// beyond plain mappings.
func (f *configFile) pairs(node *yaml.Node, where string, fn func(key, value *yaml.Node) error) error {
	if where == "" {
		where = "the file"
	}
	if node.Kind != yaml.MappingNode {
		return f.errorf(node, "%s must be a mapping of settings", where)
	}
	for pair := range slices.Chunk(node.Content, 2) {
		key, value := pair[0], pair[1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return f.errorf(key, "%s: keys must be plain names", where)
		}
		if value.Kind == yaml.AliasNode {
			return f.errorf(value, "%q: YAML aliases are not supported", key.Value)
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (f *configFile) plainValue(node *yaml.Node, key string) (any, error) {
	switch {
	case isNull(node):
		return nil, nil
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode:
		list := make([]any, 0, len(node.Content))
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, f.errorf(item, "%q must be a list of plain values", key)
			}
			list = append(list, item.Value)
		}
		return list, nil
	}
	return nil, f.errorf(node, "%q must be a plain value", key)
}

// checkKeys refuses keys that no flag has, all of them at once.
func (f *configFile) checkKeys(flags []*kong.Flag) error {
	known := make([]string, 0, len(flags)+1)
	for _, flag := range flags {
		if isSetting(flag) {
			known = append(known, flag.Name)
		}
	}
	var bad []fileEntry
	for _, e := range f.entries {
		if !slices.Contains(known, e.name) {
			bad = append(bad, e)
		}
	}
	for _, e := range f.sections {
		if !slices.ContainsFunc(known, func(name string) bool { return strings.HasPrefix(name, e.name+"-") }) {
			bad = append(bad, e)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b fileEntry) int { return a.line - b.line })
	lines := make([]string, 0, len(bad))
	for _, e := range bad {
		lines = append(lines, fmt.Sprintf("%s:%d: unknown setting %q%s", f.path, e.line, e.key,
			didYouMean(e.name, append(known, "namespaces"))))
	}
	return sourceErrorf("%s", strings.Join(lines, "\n"+progName+": "))
}

// didYouMean returns a hint with the known name that is at most two edits away, or
// nothing.
func didYouMean(name string, known []string) string {
	best, distance := "", 3
	for _, candidate := range known {
		if d := editDistance(name, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", fileKey(best))
}

// fileKey is a flag's name as the file's key.
func fileKey(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// editDistance is Levenshtein's, by one row of the table.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
