package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// process is a running program. Its output goes to files, so that it can be looked
// at while it runs and no goroutine has to copy it.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	stdout string // path
	stderr string // path
	ended  chan struct{}
}

// start starts the program under test. It is killed at the end of the test.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startCommand(t, nil, built.roomcast, args...)
}

// startCommand starts any program with its standard input; nil is an empty one.
func startCommand(t testing.TB, stdin io.Reader, name string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		t:      t,
		name:   strings.Join(append([]string{filepath.Base(name)}, args...), " "),
		stdout: filepath.Join(dir, "stdout"),
		stderr: filepath.Join(dir, "stderr"),
		ended:  make(chan struct{}),
	}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir = dir
	p.cmd.Env = cleanEnv()
	p.cmd.Stdin = stdin
	for path, into := range map[string]*io.Writer{p.stdout: &p.cmd.Stdout, p.stderr: &p.cmd.Stderr} {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }() // the child has its own
		*into = file
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // ProcessState tells
	}()
	t.Cleanup(p.cleanup)
	return p
}

// cleanEnv is this process's environment without settings of ours.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ROOMCAST_") {
			env = append(env, kv)
		}
	}
	return env
}

func (p *process) cleanup() {
	p.kill()
	if p.t.Failed() {
		p.t.Logf("%s: exit code %d, standard error:\n%s", p.name, p.cmd.ProcessState.ExitCode(), tail(p.errors(), 4000))
	}
}

func tail(text string, limit int) string {
	if len(text) > limit {
		return "…" + text[len(text)-limit:]
	}
	return text
}

// kill ends the process at once (SIGKILL). It may have ended.
func (p *process) kill() {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) signal(sig os.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
}

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits for the end of the process and returns its exit code; -1 if a signal
// ended it.
func (p *process) wait(deadline time.Duration) int {
	p.t.Helper()
	nodetest.Eventually(p.t, deadline, p.name+" ends", func() bool { return !p.running() })
	return p.cmd.ProcessState.ExitCode()
}

// output is what the process has written to standard output until now.
func (p *process) output() string { return p.read(p.stdout) }

// errors is what the process has written to standard error until now.
func (p *process) errors() string { return p.read(p.stderr) }

func (p *process) read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// says waits until standard error has a text.
func (p *process) says(text string) {
	p.t.Helper()
	nodetest.Eventually(p.t, patience, p.name+" says "+text, func() bool { return strings.Contains(p.errors(), text) })
}

// run runs a program to its end and returns its output and exit code.
func run(t testing.TB, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	p := startCommand(t, nil, name, args...)
	code = p.wait(patience)
	return p.output(), p.errors(), code
}

// must runs the program under test, which must succeed, and returns its output
// without the last line end.
func must(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, built.roomcast, args...)
	if code != 0 {
		t.Fatalf("roomcast %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return strings.TrimSuffix(stdout, "\n")
}

// server is a `roomcast serve` that is ready.
type server struct {
	*process
	node.Addrs
	readyFile string
	args      []string
}

// serveArgs is how the tests start nodes: on free ports. Later flags win.
func serveArgs(args ...string) []string {
	return append([]string{
		"serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--log-level", "warn",
	}, args...)
}

// serve starts a node and waits until it is ready.
func serve(t testing.TB, args ...string) *server {
	t.Helper()
	return serveBy(t, start, args...)
}

// serveBy is serve for a node that is started in a way of its own.
func serveBy(t testing.TB, start func(t testing.TB, args ...string) *process, args ...string) *server {
	t.Helper()
	s := &server{readyFile: filepath.Join(t.TempDir(), "ready"), args: args}
	s.process = start(t, append(serveArgs("--ready-file", s.readyFile), args...)...)
	nodetest.Eventually(t, patience, "the node is ready", func() bool {
		text, err := os.ReadFile(s.readyFile)
		if err != nil && !s.running() {
			t.Fatalf("the node ended: %s", s.errors())
		}
		return err == nil && json.Unmarshal(text, &s.Addrs) == nil
	})
	return s
}

// dataDir is the node's --data-dir.
func (s *server) dataDir() string { return s.args[slices.Index(s.args, "--data-dir")+1] }

// stop drains the node.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.wait(patience); code != 0 {
		s.t.Errorf("exit code %d after a drain, want 0", code)
	}
}

// serveHere is serve for a node that comes back by [server.again].
func serveHere(t testing.TB, args ...string) *server {
	t.Helper()
	free, err := nodetest.FreeAddrs(3)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, append([]string{"--http-addr", free[0], "--grpc-addr", free[1], "--admin-addr", free[2]}, args...)...)
}

// gated reads as a text whose rest comes once open has been called. It must be before the
// test's end: a process that reads it is waited for.
func gated(begin, rest []byte) (in io.Reader, open func()) {
	gate := make(chan struct{})
	open = sync.OnceFunc(func() { close(gate) })
	return io.MultiReader(bytes.NewReader(begin), waiting(gate), bytes.NewReader(rest)), open
}

// waiting is a reader that ends once something is closed.
type waiting <-chan struct{}

func (w waiting) Read([]byte) (int, error) {
	<-w
	return 0, io.EOF
}

// split cuts a file behind some of its lines.
func split(file []byte, lines int) (begin, rest []byte) {
	all := bytes.SplitAfterN(file, []byte("\n"), lines+1)
	return file[:len(file)-len(all[lines])], all[lines]
}

// again starts a node on the addresses of one that has ended, see serveHere.
func (s *server) again(t testing.TB, args ...string) *server {
	t.Helper()
	return serve(t, append([]string{"--http-addr", s.HTTP, "--grpc-addr", s.GRPC, "--admin-addr", s.Admin}, args...)...)
}

// subscribe starts `roomcast sub` and waits until it has subscribed.
func (s *server) subscribe(t testing.TB, args ...string) *process {
	t.Helper()
	p := start(t, append([]string{"sub", "--url", "http://" + s.HTTP}, args...)...)
	p.says("subscribed to ")
	return p
}

// startNATS starts an external nats-server on a free port and returns its URL.
func startNATS(t testing.TB) (p *process, url string) {
	t.Helper()
	dir := t.TempDir()
	p = startCommand(t, nil, built.nats, "--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", dir, "--jetstream", "--store_dir", dir)
	nodetest.Eventually(t, patience, "nats-server is ready", func() bool {
		var ports struct {
			NATS []string `json:"nats"`
		}
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("nats-server_%d.ports", p.cmd.Process.Pid)))
		if err != nil || json.Unmarshal(text, &ports) != nil || len(ports.NATS) == 0 {
			return false
		}
		url = ports.NATS[0]
		return true
	})
	return p, url
}

// write makes a file of the test's own and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bounded is a context for one call.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
