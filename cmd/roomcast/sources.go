package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// sources is where settings come from besides flags: the environment, then the
// configuration file. kong asks it for every flag that the command line did not
// set, so the order is flag > environment > file > default in this one place.
//
// kong's own order would be file > environment; therefore kong never sees the
// environment, and both come from here.
type sources struct {
	getenv func(string) string
	file   *configFile       // nil = none given
	origin map[string]string // flag name to where its value came from; absent = default
}

func newSources(getenv func(string) string) *sources {
	return &sources{getenv: getenv, origin: make(map[string]string)}
}

// takeEnvironment takes the variables' names away from kong, which would read the
// process's environment by itself. [kong.Flag.Envs] keeps them for the help texts.
func (s *sources) takeEnvironment(model *kong.Application) {
	for _, node := range append(model.Leaves(false), model.Node) {
		for _, flag := range node.Flags {
			flag.Tag.Envs = nil
		}
	}
}

// Validate implements [kong.Resolver].
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve implements [kong.Resolver]: the value of a flag that the command line
// did not set, or nil for its default.
func (s *sources) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if value := s.getenv(env); value != "" {
			return s.accept(flag, value, env)
		}
	}
	if s.file == nil {
		return nil, nil
	}
	entry, ok := s.file.entries[flag.Name]
	if !ok || entry.value == nil || !isSetting(flag) {
		return nil, nil
	}
	return s.accept(flag, entry.value, fmt.Sprintf("%s:%d", s.file.path, entry.line))
}

// accept tries the value before kong does, so that an error names where the value
// stands and not only the flag.
func (s *sources) accept(flag *kong.Flag, value any, from string) (any, error) {
	target := reflect.New(flag.Target.Type()).Elem()
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target); err != nil {
		return nil, sourceErrorf("%s: --%s: %w", from, flag.Name, err)
	}
	if flag.Enum != "" && !slices.Contains(flag.EnumSlice(), fmt.Sprint(target)) {
		return nil, sourceErrorf("%s: --%s must be one of %s, not %q",
			from, flag.Name, strings.ReplaceAll(flag.Enum, ",", ", "), fmt.Sprint(target))
	}
	s.origin[flag.Name] = from
	return value, nil
}

// noteFlags records which flags the command line set.
func (s *sources) noteFlags(ctx *kong.Context) {
	for _, path := range ctx.Path {
		if path.Flag != nil && !path.Resolved {
			s.origin[path.Flag.Name] = "flag"
		}
	}
}

// isSetting reports whether a flag is a setting of serve, which the file may hold:
// all that have an environment variable but --config itself.
func isSetting(flag *kong.Flag) bool {
	return len(flag.Envs) > 0 && flag.Name != "config"
}

// helpText is the help of a flag or argument with the name of its variable.
func helpText(value *kong.Value) string {
	if value.Flag == nil || len(value.Flag.Envs) == 0 {
		return value.Help
	}
	return fmt.Sprintf("%s ($%s)", value.Help, strings.Join(value.Flag.Envs, ", $"))
}

// sourceError is a mistake in the environment or the file; kong's prefix with
// whichever flag it was resolving is not for people.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func sourceErrorf(format string, args ...any) error {
	return &sourceError{fmt.Errorf(format, args...)}
}
