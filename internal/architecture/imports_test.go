package architecture

import (
	"slices"
	"strings"
	"testing"
)

// layers is the import table of docs/design.md §3, highest line first. A package
// imports lines below its own; those on one line never import each other.
func layers() [][]string {
	return [][]string{
		{"cmd/roomcast"},
		{"internal/node"},
		{"internal/connections"},
		{"internal/api", "internal/gateway", "internal/console"},
		{"internal/hub", "internal/presence", "internal/bus", "internal/embednats"},
		{"internal/wire", "internal/auth", "internal/metrics"},
		{"internal/room"},
	}
}

// beside lists the packages that stand outside the layers, with what each may
// import of this module.
func beside() map[string][]string {
	return map[string][]string{
		// A caller's program compiles the client, so it takes the words and the frames and no part of a node.
		"client": {"gen", "internal/wire", "internal/room"},
		"gen":    {},
		// Test support: it starts what a test asks for.
		"internal/nodetest":     {"cmd", "client", "gen", "internal"},
		"internal/architecture": {},
		// A load generator, the client of a node like any other.
		"internal/bench": {"client", "gen", "internal/wire", "internal/room"},
		"test":           {"cmd", "client", "gen", "internal"},
	}
}

// confined lists the modules that few packages may know, with those packages.
// Test support stands with the packages that it replaces.
func confined() map[string][]string {
	return map[string][]string{
		"github.com/nats-io":           {"internal/bus", "internal/embednats", "internal/nodetest", "test"},
		"github.com/gorilla/websocket": {"internal/gateway", "client", "internal/nodetest", "test"},
		"google.golang.org/grpc": {
			"internal/api", "client", "cmd", "gen",
			"internal/node", // wires the server and its listener
			"internal/nodetest", "test",
		},
		"github.com/golang-jwt/jwt":           {"internal/auth", "test"},
		"github.com/alecthomas/kong":          {"cmd"},
		"github.com/prometheus/client_golang": {"internal/metrics", "internal/nodetest", "test"},
	}
}

func TestImportTable(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t) {
		if home(src.pkg) == "" {
			t.Errorf("%s: package %s is not in the import table; give it a place in docs/design.md and in layers", src.path, src.pkg)
			continue
		}
		if src.test() {
			continue // a test may start the real parts around its package
		}
		for _, imported := range src.imports() {
			if why := refusal(src.pkg, imported); why != "" {
				t.Errorf("%s imports %s: %s", src.path, imported, why)
			}
		}
	}
}

func TestNoAssertionLibrary(t *testing.T) {
	t.Parallel()
	for _, src := range sources(t) {
		for _, imported := range src.imports() {
			if within(imported, "github.com/stretchr/testify") {
				t.Errorf("%s imports %s: tests use the standard library and go-cmp", src.path, imported)
			}
		}
	}
}

// TestRefusal shows that the table refuses what it is there to refuse: a rule
// that never matches would pass every tree.
func TestRefusal(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pkg, imported string
		refused       bool
	}{
		"down":                      {"internal/api", module + "/internal/bus", false},
		"down two lines":            {"internal/gateway", module + "/internal/room", false},
		"up":                        {"internal/hub", module + "/internal/gateway", true},
		"sibling":                   {"internal/hub", module + "/internal/bus", true},
		"own subpackage":            {"internal/bus", module + "/internal/bus/subject", false},
		"sibling from subpackage":   {"internal/bus/subject", module + "/internal/hub", true},
		"generated":                 {"internal/wire", module + "/gen/roomcast/v1", false},
		"client in command":         {"cmd/roomcast", module + "/client", false},
		"client in node":            {"internal/node", module + "/client", true},
		"load generator in command": {"cmd/roomcast", module + "/internal/bench", false},
		"load generator in node":    {"internal/node", module + "/internal/bench", true},
		"hub in load generator":     {"internal/bench", module + "/internal/hub", true},
		"node in client":            {"client", module + "/internal/node", true},
		"test support in a node":    {"internal/node", module + "/internal/nodetest", true},
		"node in test support":      {"internal/nodetest", module + "/internal/node", false},
		"room, standard library":    {"internal/room", "unicode/utf8", false},
		"room, generated":           {"internal/room", module + "/gen/roomcast/v1", true},
		"room, module":              {"internal/room", "github.com/google/go-cmp/cmp", true},
		"nats in bus":               {"internal/bus", "github.com/nats-io/nats.go/jetstream", false},
		"nats in hub":               {"internal/hub", "github.com/nats-io/nats.go", true},
		"nats in cmd":               {"cmd/roomcast", "github.com/nats-io/nats-server/v2/server", true},
		"gorilla in gateway":        {"internal/gateway", "github.com/gorilla/websocket", false},
		"gorilla in node":           {"internal/node", "github.com/gorilla/websocket", true},
		"grpc in api":               {"internal/api", "google.golang.org/grpc/codes", false},
		"grpc in bus":               {"internal/bus", "google.golang.org/grpc/codes", true},
		"a name that only starts":   {"internal/bus", "google.golang.org/grpcx", false},
		"a package without a line":  {"internal/bus", module + "/internal/util", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why := refusal(test.pkg, test.imported)
			if got := why != ""; got != test.refused {
				t.Errorf("%s importing %s: got refused %t (%s), want %t", test.pkg, test.imported, got, why, test.refused)
			}
		})
	}
}

// refusal says why pkg may not import a path, or nothing if it may.
func refusal(pkg, imported string) string {
	for confinedTo, allowed := range confined() {
		if within(imported, confinedTo) && !withinAny(pkg, allowed) {
			return "only " + strings.Join(allowed, ", ") + " may"
		}
	}
	if standard, _, _ := strings.Cut(imported, "/"); within(pkg, "internal/room") && strings.Contains(standard, ".") {
		return "room imports the standard library only"
	}
	if rel, ours := strings.CutPrefix(imported, module+"/"); ours {
		return refusalInside(pkg, rel)
	}
	return ""
}

// refusalInside is refusal for an import of this module.
func refusalInside(pkg, imported string) string {
	from, to := home(pkg), home(imported)
	switch {
	case to == "":
		return "it is not in the import table"
	case from == to, to == "gen":
		return ""
	}
	if allowed, outside := beside()[from]; outside {
		if withinAny(imported, allowed) {
			return ""
		}
		return from + " may import only " + strings.Join(allowed, ", ")
	}
	if _, outside := beside()[to]; outside {
		if from == "cmd/roomcast" && (to == "client" || to == "internal/bench") {
			return ""
		}
		return "no part of a node may"
	}
	if layer(from) < layer(to) {
		return ""
	}
	return "arrows point down only, and siblings never import each other"
}

// home is the entry of the import table that a package belongs to, or nothing.
func home(pkg string) string {
	for _, line := range layers() {
		for _, entry := range line {
			if within(pkg, entry) {
				return entry
			}
		}
	}
	for entry := range beside() {
		if within(pkg, entry) {
			return entry
		}
	}
	return ""
}

// layer is the line of the table that an entry stands on, 0 the highest.
func layer(entry string) int {
	return slices.IndexFunc(layers(), func(line []string) bool { return slices.Contains(line, entry) })
}

// within reports whether a path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func withinAny(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(path, dir) })
}
