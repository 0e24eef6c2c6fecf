package main

import (
	"bytes"
	"maps"
	"os"
	"strings"
	"testing"
)

func TestPrecedence(t *testing.T) {
	t.Parallel()
	const yaml = "node: file\nping_interval: 10s\nallowed_origins: [https://file]\ndev: true\n"
	tests := map[string]struct {
		yaml string
		env  map[string]string
		args []string
		want string // a line of config print
	}{
		"default":                 {want: "ping_interval: 25s # default"},
		"file":                    {yaml: yaml, want: "ping_interval: 10s # FILE:2"},
		"environment beats file":  {yaml: yaml, env: map[string]string{"ROOMCAST_PING_INTERVAL": "11s"}, want: "ping_interval: 11s # ROOMCAST_PING_INTERVAL"},
		"flag beats environment":  {yaml: yaml, env: map[string]string{"ROOMCAST_PING_INTERVAL": "11s"}, args: []string{"--ping-interval", "12s"}, want: "ping_interval: 12s # flag"},
		"flag beats file":         {yaml: yaml, args: []string{"--node", "flag"}, want: "node: flag # flag"},
		"empty variable is unset": {yaml: yaml, env: map[string]string{"ROOMCAST_NODE": ""}, want: "node: file # FILE:1"},
		"list of the file":        {yaml: yaml, want: "allowed_origins: ['https://file'] # FILE:3"},
		"list of the environment": {yaml: yaml, env: map[string]string{"ROOMCAST_ALLOWED_ORIGINS": "a,b"}, want: "allowed_origins: [a, b] # ROOMCAST_ALLOWED_ORIGINS"},
		"flags replace the list":  {yaml: yaml, args: []string{"--allowed-origins", "a", "--allowed-origins", "b"}, want: "allowed_origins: [a, b] # flag"},
		"false beats true":        {yaml: yaml, env: map[string]string{"ROOMCAST_DEV": "false"}, want: "dev: false # ROOMCAST_DEV"},
		"no- beats all":           {yaml: yaml, env: map[string]string{"ROOMCAST_DEV": "true"}, args: []string{"--no-dev"}, want: "dev: false # flag"},
		"dev's data-dir":          {yaml: yaml, want: "data_dir: ./.roomcast-dev # default with --dev"},
		"dev's reflection":        {yaml: yaml, want: "reflection: true # default with --dev"},
		"no dev, no reflection":   {want: "reflection: false # default"},
		"reflection off in dev":   {yaml: yaml, args: []string{"--no-reflection"}, want: "reflection: false # flag"},
		"data-dir of its own":     {yaml: yaml, args: []string{"--data-dir", "d"}, want: "data_dir: d # flag"},
		"dashes in the file":      {yaml: "ping-interval: 10s\n", want: "ping_interval: 10s # FILE:1"},
		"a section":               {yaml: "ping: {interval: 10s}\n", want: "ping_interval: 10s # FILE:1"},
		"null is unset":           {yaml: "ping_interval:\n", want: "ping_interval: 25s # default"},
		"nothing in the file":     {yaml: "# later\n", want: "ping_interval: 25s # default"},
		"passwords are hidden": {
			yaml: "nats_url: nats://u:p@h1, tls://h2\n", want: "nats_url: nats://hidden@h1, tls://h2 # FILE:1",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{}
			maps.Copy(env, test.env)
			if test.yaml != "" {
				env["ROOMCAST_CONFIG"] = writeConfig(t, test.yaml)
			}
			code, stdout, stderr := runWith(t, env, append([]string{"config", "print"}, test.args...)...)
			if code != exitOK {
				t.Fatalf("got exit code %d: %s", code, stderr)
			}
			printed := strings.ReplaceAll(stdout, env["ROOMCAST_CONFIG"], "FILE")
			if test.yaml == "" {
				printed = stdout
			}
			if !strings.Contains("\n"+printed, "\n"+test.want+"\n") {
				t.Errorf("got\n%swant the line %q", printed, test.want)
			}
		})
	}
}

// TestPrintedConfigIsRead: what print shows is a file that means the same.
func TestPrintedConfigIsRead(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, "node: 'yes'\nnats: {replicas: 3}\nallowed_origins: [a, b]\nnamespaces: {chat: {history: {size: 0}}}\n")
	code, first, stderr := runWith(t, nil, "config", "print", "--config", file)
	if code != exitOK {
		t.Fatalf("got exit code %d: %s", code, stderr)
	}
	code, second, stderr := runWith(t, nil, "config", "print", "--config", writeConfig(t, first))
	if code != exitOK {
		t.Fatalf("the printed file: got exit code %d: %s", code, stderr)
	}
	if got, want := withoutOrigins(second), withoutOrigins(first); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func withoutOrigins(printed string) string {
	var b strings.Builder
	for line := range strings.Lines(printed) {
		value, _, _ := strings.Cut(line, " # ")
		b.WriteString(strings.TrimSpace(value) + "\n")
	}
	return b.String()
}

func TestHideSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nats://h:4222":                      "nats://h:4222",
		"nats://u:p@h:4222":                  "nats://hidden@h:4222",
		"nats://token@h":                     "nats://hidden@h",
		"nats://u:p@h1:1,nats://u:p@h2:2":    "nats://hidden@h1:1,nats://hidden@h2:2",
		"u:p@h":                              "hidden@h",
		"nats://u:p%zz@h":                    "hidden@h",
		"./roomcast-data":                    "./roomcast-data",
		"nats://u:p@h1, https://app.example": "nats://hidden@h1, https://app.example",
	} {
		if got := hideSecrets(text); got != want && strings.ReplaceAll(got, ", ", ",") != strings.ReplaceAll(want, ", ", ",") {
			t.Errorf("hideSecrets(%q): got %q, want %q", text, got, want)
		}
	}
}

func TestConfigDocsAreCommitted(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"config", "docs"}, strings.NewReader(""), &out, &errs, func(string) string { return "" }); code != 0 {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	const path = "../../docs/config.md"
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("docs/config.md is not what `roomcast config docs` prints; run go test ./cmd/roomcast -run ConfigDocs -update")
	}
}
