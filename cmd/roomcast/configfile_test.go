package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigFileRefusals: each mistake is exit code 2 and names file, line and key.
func TestConfigFileRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ yaml, want string }{
		"unknown":              {"http_adr: x\n", `:1: unknown setting "http_adr"; did you mean "http_addr"?`},
		"unknown, far off":     {"dev: false\ncolour: blue\n", `:2: unknown setting "colour"`},
		"unknown, nested":      {"nats:\n  urll: x\n", `:2: unknown setting "nats.urll"; did you mean "nats_url"?`},
		"unknown section":      {"foo: {}\n", `:1: unknown setting "foo"`},
		"setting as section":   {"dev: {}\n", `:1: unknown setting "dev"`},
		"section as setting":   {"nats: x\n", `:1: unknown setting "nats"`},
		"the file's own flag":  {"config: x\n", `:1: unknown setting "config"`},
		"a flag, no setting":   {"help: true\n", `:1: unknown setting "help"`},
		"twice, two spellings": {"nats_url: a\nnats: {url: b}\n", `:2: "nats.url" is set twice; first in line 1`},
		"twice, dashes":        {"http_addr: a\nhttp-addr: b\n", `:2: "http-addr" is set twice`},
		"no duration":          {"ping_interval: 3\n", `:1: --ping-interval: expected duration but got "3"`},
		"no boolean":           {"dev: maybe\n", `:1: --dev: bool value must be`},
		"no number":            {"nats_replicas: three\n", `:1: --nats-replicas: `},
		"no choice":            {"log_level: loud\n", `:1: --log-level must be one of debug, info, warn, error, not "loud"`},
		"list of lists":        {"allowed_origins: [[a]]\n", `:1: "allowed_origins" must be a list of plain values`},
		"a list at the top":    {"- a\n", `:1: the file must be a mapping of settings`},
		"two documents":        {"dev: true\n---\ndev: false\n", `more than one YAML document`},
		"broken":               {"dev: [\n", `not valid YAML`},
		"alias":                {"node: &a x\ndata_dir: *a\n", `:2: "data_dir": YAML aliases are not supported`},
		"merge":                {"<<: {dev: true}\n", `:1: the file: keys must be plain names`},
		"namespace, unknown":   {"namespaces: {chat: {histroy: {}}}\n", `:1: unknown setting "namespaces.chat.histroy"; known are history, presence`},
		"history, unknown":     {"namespaces:\n  chat:\n    history:\n      sice: 3\n", `:4: unknown setting "namespaces.chat.history.sice"; known are size, ttl, max_bytes`},
		"history, plain":       {"namespaces: {chat: {history: 3}}\n", `unknown setting "namespaces.chat.history"; it must be a mapping`},
		"namespace, twice":     {"namespaces:\n  a: {}\n  a: {}\n", `namespace "a" is set twice`},
		"policy, twice":        {"namespaces:\n  a:\n    presence: true\n    presence: false\n", `:4: "namespaces.a.presence" is set twice`},
		"namespace, bad name":  {"namespaces: {Chat: {}}\n", `"Chat" is no namespace name`},
		"namespace, plain":     {"namespaces: {chat: 1}\n", `namespaces.chat must be a mapping`},
		"policy, bad size":     {"namespaces: {chat: {max_payload: big}}\n", `"namespaces.chat.max_payload": "big" is no size`},
		"policy, bad ttl":      {"namespaces: {chat: {history: {ttl: 3s}}}\n", `namespaces.chat: history.ttl is 3s; it must be at least 2m`},
		"policy, bad slow":     {"namespaces: {chat: {slow: queue}}\n", `namespaces.chat: slow is "queue"`},
		"policy, list":         {"namespaces: {chat: {slow: [spill]}}\n", `"namespaces.chat.slow" must be a plain value`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := writeConfig(t, test.yaml)
			code, _, stderr := runWith(t, nil, "config", "check", "--config", file)
			if code != exitUsage {
				t.Errorf("got exit code %d, want %d", code, exitUsage)
			}
			if !strings.Contains(stderr, test.want) || !strings.Contains(stderr, file) {
				t.Errorf("got %q, want the file's name and %q", stderr, test.want)
			}
		})
	}
}

func TestConfigFileMissing(t *testing.T) {
	t.Parallel()
	code, _, stderr := runWith(t, nil, "config", "check", "--config", filepath.Join(t.TempDir(), "nope.yaml"))
	if code != exitUsage || !strings.Contains(stderr, "--config: open ") {
		t.Errorf("got exit code %d and %q, want %d and the flag's name", code, stderr, exitUsage)
	}
}

// FuzzConfigFile holds that no file makes the program panic, and that a refused one
// says why in lines that name it.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"", "dev: true\n", "nats: {url: a, replicas: 3}\n", "namespaces: {a: {history: {size: 1}}}\n",
		"a: &a [*a]\n", "? {a: b}\n: c\n", "---\n---\n", "node: !!binary aGk=\n", "namespaces:\n- a\n", "<<: 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := runWith(t, nil, "config", "print", "--config", file)
		switch {
		case code == exitOK && strings.Contains(stdout, "namespaces:"):
		case code == exitUsage && strings.Contains(stderr, "c.yaml"):
		default:
			t.Errorf("got exit code %d, output %q, errors %q", code, stdout, stderr)
		}
	})
}

// runWith runs the program in this process.
func runWith(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	getenv := func(name string) string { return env[name] }
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs, getenv)
	return code, out.String(), errs.String()
}
