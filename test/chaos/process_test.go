package chaos

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// patience bounds a wait for something that takes seconds at most on a quiet machine.
const patience = 2 * time.Minute

// process is a program that can be killed and started again with the same arguments.
// All its lives write to one file.
type process struct {
	t       testing.TB
	name    string
	log     string // path
	program string
	args    []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

func (p *process) start() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }() // the child has its own
	cmd := exec.Command(p.program, p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, cleanEnv()
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
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

func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(sig) // it may have ended
}

// kill ends it at once. It may have ended.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	<-ended
}

// running reports whether it has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// until waits for something that the process does. It asks rarely: asking costs the
// process, and this one.
func (p *process) until(what string, cond func() bool) {
	p.t.Helper()
	var asked time.Time
	nodetest.Eventually(p.t, patience, p.name+": "+what+"; its log is "+p.log, func() bool {
		if !p.running() {
			p.t.Fatalf("%s has ended; its log is %s", p.name, p.log)
		}
		if time.Since(asked) < 100*time.Millisecond {
			return false
		}
		asked = time.Now()
		return cond()
	})
}

// freeAddr returns an address that nobody listens on. It is below the ports that the
// system gives out by itself, and each is given once: nobody gets it while its process
// is dead either.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12_000+built.port.Add(1)%20_000)
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = lis.Close()
		return addr
	}
	t.Fatal("no free port below 32000")
	return ""
}
