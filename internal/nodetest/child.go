package nodetest

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"
)

// childEnv makes a test binary a nats-server: its value is the store directory and
// the port.
const childEnv = "ROOMCAST_NODETEST_NATS"

// Setup prepares what the tests of a package share, and returns how to remove it.
type Setup = func() (cleanup func(), err error)

// Main runs a package's tests and fails if goroutines are left. A package that uses
// [StartChildNATS] must call it from TestMain: the child is the test binary itself.
// The setups run before the tests, in this process only.
func Main(m *testing.M, setups ...Setup) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(runChild(spec))
	}
	var cleanups []func()
	end := func(code int) {
		for _, cleanup := range cleanups {
			cleanup()
		}
		os.Exit(code)
	}
	for _, setup := range setups {
		cleanup, err := setup()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			end(1)
		}
		cleanups = append(cleanups, cleanup)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(end))
}

// runChild is the child process: a nats-server until its parent is gone.
func runChild(spec string) int {
	port, dir, _ := strings.Cut(spec, ":")
	p, err := strconv.Atoi(port)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bad", childEnv, spec)
		return 2
	}
	srv, err := server.NewServer(natsOptions(dir, p))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	srv.Start()
	if !srv.ReadyForConnections(startTime) {
		return 1
	}
	fmt.Println(srv.ClientURL())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	parentGone := make(chan struct{})
	go func() {
		defer close(parentGone)
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // ends with the parent
	}()
	select {
	case <-stop:
	case <-parentGone:
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	return 0
}

// ChildNATS is a nats-server in a process of its own.
type ChildNATS struct {
	t    testing.TB
	dir  string
	port int
	cmd  *exec.Cmd
	URL  string
}

// StartChildNATS starts a nats-server as a child process. It ends with the test.
func StartChildNATS(t testing.TB) *ChildNATS {
	t.Helper()
	n := &ChildNATS{t: t, dir: t.TempDir(), port: reservePort(t)}
	n.Start()
	t.Cleanup(func() {
		n.Resume()
		n.Kill()
	})
	return n
}

// Start starts the process, after Kill on the same port and directory.
func (n *ChildNATS) Start() {
	n.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd = exec.Command(exe) //nolint:noctx // ends with the test
	n.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", childEnv, n.port, n.dir))
	n.cmd.Stderr = os.Stderr
	if _, err := n.cmd.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		n.t.Fatalf("nats-server child: %v", err)
	}
	n.URL = strings.TrimSpace(line)
	n.port = mustPort(n.t, n.URL)
}

// Pause stops the process where it stands (SIGSTOP) and returns once it does; its
// sockets stay open.
func (n *ChildNATS) Pause() {
	n.t.Helper()
	n.signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(n.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		n.t.Fatalf("pause nats-server: status %v, %v", status, err)
	}
}

// Resume lets it go on (SIGCONT).
func (n *ChildNATS) Resume() { n.signal(syscall.SIGCONT) }

// Kill ends it at once (SIGKILL). It may be called again.
func (n *ChildNATS) Kill() {
	n.signal(syscall.SIGKILL)
	_ = n.cmd.Wait() // reports the signal
}

func (n *ChildNATS) signal(sig syscall.Signal) {
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Signal(sig) // it may have ended
	}
}

func mustPort(t testing.TB, rawURL string) int {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
