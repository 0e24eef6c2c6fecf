package main

import (
	"io"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestSettingNames pins the rule that one name has three spellings.
func TestSettingNames(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "pub", "sub", "health"} {
		for _, flag := range settingsOf(testModel(t), command) {
			if len(flag.Envs) == 0 {
				continue
			}
			want := "ROOMCAST_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
			if got := strings.Join(flag.Envs, ","); got != want {
				t.Errorf("%s --%s: got environment %s, want %s", command, flag.Name, got, want)
			}
		}
	}
}

// TestEverySettingHasASource fails for a field of Settings without an env tag: the
// file could not set it.
func TestEverySettingHasASource(t *testing.T) {
	t.Parallel()
	for _, flag := range settingsOf(testModel(t), "serve") {
		if len(flag.Envs) == 0 {
			t.Errorf("--%s has no environment variable", flag.Name)
		}
		if flag.Name != "config" && flag.Group == nil {
			t.Errorf("--%s stands in no group of the help", flag.Name)
		}
	}
}

func testModel(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := newParser(&commands{}, discard(), newSources(noEnv), func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

func discard() *process {
	return &process{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: noEnv}
}

func noEnv(string) string { return "" }
