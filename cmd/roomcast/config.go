package main

import (
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/room"
)

// configCmd holds the commands that look at settings without running a node.
type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Validate the settings that serve would use here."`
	Print configPrintCmd `cmd:"" help:"Show the effective settings as YAML, and where each comes from. Secrets are hidden."`
	Docs  configDocsCmd  `cmd:"" help:"List all settings as Markdown."`
}

type configCheckCmd struct {
	Settings Settings `embed:""`
}

// Run says "ok", or fails with exit code 2 and names the setting: what serve would
// say before it takes ports and opens files of its own.
func (c *configCheckCmd) Run(p *process, src *sources) error {
	cfg, err := c.Settings.nodeConfig()
	if err != nil {
		return &usageError{err}
	}
	if _, err := node.New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		return &usageError{err}
	}
	from := "flags, environment and defaults"
	if src.file != nil {
		from = src.file.path
	}
	p.printf("ok: %s\n", from)
	return nil
}

type configPrintCmd struct {
	Settings Settings `embed:""`
}

// Run prints YAML that --config reads back, apart from hidden secrets. It shows
// settings that check would refuse, too.
func (c *configPrintCmd) Run(p *process, ctx *kong.Context, src *sources) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	group := ""
	for _, flag := range ctx.Flags() {
		if !isSetting(flag) {
			continue
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: fileKey(flag.Name)}
		if flag.Group != nil && flag.Group.Title != group {
			group = flag.Group.Title
			key.HeadComment = group
		}
		value := yamlValue(flag)
		from, ok := src.origin[flag.Name]
		if !ok {
			from = "default"
		}
		value.LineComment = from
		root.Content = append(root.Content, key, value)
	}
	root.Content = append(root.Content, printedNamespaces(c.Settings.Namespaces)...)
	enc := yaml.NewEncoder(p.stdout)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print settings: %w", err)
	}
	return enc.Close()
}

// yamlValue is a setting's effective value.
func yamlValue(flag *kong.Flag) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode}
	switch value := reflect.Indirect(flag.Target).Interface().(type) {
	case []string:
		node = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range value {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: item, Tag: "!!str"})
		}
	case string:
		node.Value, node.Tag = hideSecrets(value), "!!str"
	case time.Duration:
		node.Value = formatDuration(value)
	default:
		node.Value = fmt.Sprint(value)
	}
	return node
}

// hideSecrets replaces user and password in URLs. Every other secret is in a file
// of its own, and its path is none.
func hideSecrets(value string) string {
	if !strings.Contains(value, "@") {
		return value
	}
	urls := strings.Split(value, ",")
	for i, text := range urls {
		if u, err := url.Parse(strings.TrimSpace(text)); err == nil && u.User != nil {
			u.User = url.User("hidden")
			urls[i] = u.String()
		} else if at := strings.LastIndex(text, "@"); at >= 0 {
			urls[i] = "hidden" + text[at:]
		}
	}
	return strings.Join(urls, ",")
}

// printedNamespaces is the effective policy of every namespace, the unnamed
// default included.
func printedNamespaces(configured map[string]room.Policy) []*yaml.Node {
	all := map[string]room.Policy{room.DefaultNamespace: room.DefaultPolicy()}
	maps.Copy(all, configured)
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		policy := all[name]
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name, Tag: "!!str"}, printedPolicy(&policy))
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Value: "namespaces", HeadComment: "Namespaces"}
	return []*yaml.Node{key, root}
}

func printedPolicy(policy *room.Policy) *yaml.Node {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := make(map[string]*yaml.Node)
	for _, field := range policyFields() {
		into, name := root, field.key
		if section, rest, ok := strings.Cut(field.key, "."); ok {
			if sections[section] == nil {
				sections[section] = &yaml.Node{Kind: yaml.MappingNode}
				root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: section}, sections[section])
			}
			into, name = sections[section], rest
		}
		into.Content = append(into.Content,
			&yaml.Node{Kind: yaml.ScalarNode, Value: name},
			&yaml.Node{Kind: yaml.ScalarNode, Value: field.get(policy)})
	}
	return root
}
