package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"
)

// Exit codes of the contract.
const (
	exitOK      = 0
	exitFailure = 1 // something went wrong while working
	exitUsage   = 2 // bad usage, configuration or environment
)

const progName = "roomcast"

// commands is the whole command line; kong reads its tags.
type commands struct {
	Serve    serveCmd    `cmd:"" help:"Run a node."`
	Pub      pubCmd      `cmd:"" help:"Publish one message, or each line of standard input."`
	Sub      subCmd      `cmd:"" help:"Subscribe to rooms and print one message a line."`
	Presence presenceCmd `cmd:"" help:"Show who is in a room."`
	Token    tokenCmd    `cmd:"" help:"Make or explain a token."`
	Health   healthCmd   `cmd:"" help:"Ask a node whether it is ready: exit code 0 or 1."`
	Bench    benchCmd    `cmd:"" help:"Put load on running nodes and measure it."`
	Config   configCmd   `cmd:"" help:"Check, show or list the settings of serve."`
	Version  versionCmd  `cmd:"" help:"Print the version, commit, Go and NATS versions."`
}

// process is what a command has of the process it runs in.
type process struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
}

// printf writes to standard output. A reader that went away is no concern of a
// command that prints once.
func (p *process) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stdout, format, args...)
}

// notef writes to standard error, for people.
func (p *process) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, format, args...)
}

// run is main without globals: it parses args, runs the command and returns the
// exit code. An empty environment variable counts as unset.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	p := &process{stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv}
	src := newSources(getenv)
	helped := false
	parser, err := newParser(&commands{}, p, src, func(int) { helped = true })
	if err != nil {
		p.notef("%s: %v\n", progName, err)
		return exitFailure
	}
	parsed, err := parser.Parse(args)
	if helped {
		return exitOK
	}
	if err != nil {
		return reportParseError(p, err)
	}
	src.noteFlags(parsed)
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(); err != nil {
		return reportError(p, err)
	}
	return exitOK
}

func newParser(grammar *commands, p *process, src *sources, exit func(int)) (*kong.Kong, error) {
	parser, err := kong.New(grammar,
		kong.Name(progName),
		kong.Description("Messages from your backend to every connected user, in order, once."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ValueFormatter(helpText),
		settingGroups(),
		kong.Bind(p, src),
		kong.Resolvers(src),
	)
	if err != nil {
		return nil, fmt.Errorf("command line: %w", err)
	}
	src.takeEnvironment(parser.Model)
	return parser, nil
}

// usageError marks an error as the user's or the environment's: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// errSilent ends a command with exit code 1 after it has said what went wrong.
var errSilent = errors.New("failed")

func reportParseError(p *process, err error) int {
	if bad, ok := errors.AsType[*sourceError](err); ok {
		p.notef("%s: %v\n", progName, bad)
		return exitUsage
	}
	p.notef("%s: %v\n", progName, err)
	help := progName
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		if cmd := parse.Context.Selected(); cmd != nil {
			help = cmd.FullPath()
		}
	}
	p.notef("Run \"%s --help\" for more information.\n", help)
	return exitUsage
}

func reportError(p *process, err error) int {
	if !errors.Is(err, errSilent) {
		p.notef("%s: %v\n", progName, err)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}
