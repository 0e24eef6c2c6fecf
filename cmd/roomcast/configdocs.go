package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/roomcast/roomcast/internal/room"
)

// configDocsCmd lists what kong knows of serve, so that the list is never behind.
type configDocsCmd struct{}

// Run prints docs/config.md.
func (c *configDocsCmd) Run(p *process) error {
	parser, err := newParser(&commands{}, p, newSources(func(string) string { return "" }), func(int) {})
	if err != nil {
		return err
	}
	p.printf("%s", docsIntro)
	group := "-"
	for _, flag := range settingsOf(parser.Model, "serve") {
		title := ""
		if flag.Group != nil {
			title = flag.Group.Title
		}
		if title != group {
			group = title
			if title != "" {
				p.printf("\n## %s\n", title)
			}
			p.printf("\n| flag | environment | file | default | meaning |\n|---|---|---|---|---|\n")
		}
		p.printf("%s\n", docsRow(flag))
	}
	p.printf("\n## Namespaces\n\n%s\n| key | default | meaning |\n|---|---|---|\n", docsNamespaces)
	policy := room.DefaultPolicy()
	for _, field := range policyFields() {
		p.printf("| `%s` | `%s` | %s |\n", field.key, field.get(&policy), field.help)
	}
	return nil
}

const docsIntro = `# Settings of ` + "`roomcast serve`" + `

Written by ` + "`roomcast config docs`" + `; do not edit. A flag beats the environment, the
environment beats the YAML file of ` + "`--config`" + `, the file beats the default. An empty
variable counts as unset. Unknown keys in the file are an error. In the file the
first words of a key may be a section: ` + "`nats_url: X`" + ` is ` + "`nats: {url: X}`" + `. Lists are
separated by commas in flags and variables.
`

const docsNamespaces = `Only in the file: ` + "`namespaces: {NAME: {...}}`" + `. A room ` + "`NAME:anything`" + ` follows the policy of
NAME; all others follow ` + "`default`" + `. What a namespace leaves out has the default below.
`

func settingsOf(app *kong.Application, command string) []*kong.Flag {
	for _, node := range app.Children {
		if node.Name == command {
			return node.Flags
		}
	}
	return nil
}

func docsRow(flag *kong.Flag) string {
	file, def := "`"+fileKey(flag.Name)+"`", ""
	if !isSetting(flag) {
		file = ""
	}
	switch {
	case flag.HasDefault:
		def = "`" + flag.Default + "`"
	case flag.IsBool() && flag.Name != "reflection":
		def = "`false`"
	}
	return fmt.Sprintf("| `--%s` | `%s` | %s | %s | %s |",
		flag.Name, strings.Join(flag.Envs, "`, `"), file, def, strings.ReplaceAll(flag.Help, "|", "\\|"))
}
