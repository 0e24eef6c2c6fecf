package rolling

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/nodetest"
)

const startPatience = time.Minute

// process is a running program; its standard error goes to a file.
type process struct {
	cmd   *exec.Cmd
	log   string // path
	ended chan struct{}
}

// launch starts a program whose log is appended to a file.
func launch(log string, in io.Reader, out io.Writer, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), log: log, ended: make(chan struct{})} //nolint:noctx // stopped by kill
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ROOMCAST_") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the child has its own
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, file
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // ProcessState tells
	}()
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// await waits until a process is ready.
func (p *process) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", filepath.Base(p.cmd.Path), ctx.Err())
		case <-p.ended:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s has ended: %s", filepath.Base(p.cmd.Path), text)
		}
	}
	return nil
}

// startNATS starts a nats-server on a free port and returns its URL.
func startNATS(ctx context.Context, program, dir string) (p *process, url string, err error) {
	p, err = launch(filepath.Join(dir, "nats.log"), nil, nil, program,
		"--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", dir, "--jetstream", "--store_dir", dir)
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, fmt.Sprintf("%s_%d.ports", filepath.Base(program), p.cmd.Process.Pid))
	err = p.await(ctx, func() bool {
		var ports struct {
			NATS []string `json:"nats"`
		}
		text, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(text, &ports) != nil || len(ports.NATS) == 0 {
			return false
		}
		url = ports.NATS[0]
		return true
	})
	return p, url, err
}

// member is one place in the cluster: a node that is started on the same addresses
// again and again.
type member struct {
	*process
	program, dir, name string
	args               []string
	addrs              node.Addrs
}

// start starts the node and waits until it is ready.
func (m *member) start(ctx context.Context) (err error) {
	at := m.addrs
	if at.HTTP == "" {
		free, err := nodetest.FreeAddrs(3)
		if err != nil {
			return err
		}
		at = node.Addrs{HTTP: free[0], GRPC: free[1], Admin: free[2]}
	}
	ready := filepath.Join(m.dir, m.name+".ready")
	m.process, err = launch(filepath.Join(m.dir, m.name+".log"), nil, nil, m.program, append([]string{
		"serve", "--dev", "--node", m.name, "--http-addr", at.HTTP, "--grpc-addr", at.GRPC, "--admin-addr", at.Admin,
		"--data-dir", filepath.Join(m.dir, m.name), "--ready-file", ready, "--log-format", "json",
	}, m.args...)...)
	if err != nil {
		return err
	}
	return m.await(ctx, func() bool {
		text, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(text, &m.addrs) == nil
	})
}

// drain ends the node with SIGTERM and returns how long that took.
func (m *member) drain(patience time.Duration) (time.Duration, error) {
	began := time.Now()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-m.ended:
	case <-time.After(patience):
		return 0, fmt.Errorf("%s has not ended after %s", m.name, patience)
	}
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		return 0, fmt.Errorf("%s has ended with exit code %d", m.name, code)
	}
	return time.Since(began), nil
}

// What a node says of its drain.
var (
	socketsRE = regexp.MustCompile(`"draining","node":"[^"]*","connections":(\d+)`)
	paceRE    = regexp.MustCompile(`"per_second":(\d+)`)
)

// drained returns how many sockets the node had when its last drain began, and how many
// a second it has asked to move.
func (m *member) drained() (sockets, pace int, err error) {
	text, err := os.ReadFile(m.log)
	if err != nil {
		return 0, 0, err
	}
	for re, into := range map[*regexp.Regexp]*int{socketsRE: &sockets, paceRE: &pace} {
		found := re.FindAllSubmatch(text, -1)
		if len(found) == 0 {
			return 0, 0, fmt.Errorf("%s does not say %s", m.name, re)
		}
		if *into, err = strconv.Atoi(string(found[len(found)-1][1])); err != nil {
			return 0, 0, err
		}
	}
	return sockets, pace, nil
}
