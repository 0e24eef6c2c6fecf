package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/bench"
	"github.com/roomcast/roomcast/internal/node"
)

const (
	startPatience = 30 * time.Second
	scrapeEvery   = 5 * time.Second
)

// service is the running nodes and the nats-servers that they share, if any.
type service struct {
	nodes  []*process
	nats   []*process
	url    string   // theirs
	common []string // flags of every node
	stops  []func()
}

// process is one running program.
type process struct {
	cmd    *exec.Cmd
	stderr string // path
	ended  chan struct{}
	addrs  node.Addrs // of a node
}

// start starts what a row needs. What it has started must be stopped even if it fails.
func (w *workshop) start(ctx context.Context, r *row, dir string) (*service, error) {
	s := &service{}
	if r.raw {
		return s, s.startRaw(ctx, filepath.Join(dir, "raw"))
	}
	common := []string{"--token-hmac-key-file", w.keyFile}
	if r.config != "" {
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, []byte(r.config), 0o600); err != nil {
			return s, err
		}
		common = append(common, "--config", path)
	}
	if r.tls {
		common = append(common, "--tls-cert", w.cert, "--tls-key", w.certKey)
	}
	if r.external() {
		if err := s.startNATS(ctx, w.nats, dir, max(1, r.servers)); err != nil {
			return s, err
		}
		common = append(common, "--nats-url", s.url, "--nats-replicas", strconv.Itoa(max(1, r.servers)))
	}
	s.common = common
	for i := range r.nodes {
		if err := s.startNode(ctx, w.roomcast, filepath.Join(dir, fmt.Sprintf("n%d", i+1)), common); err != nil {
			return s, err
		}
	}
	return s, nil
}

// startNode starts `roomcast serve` on free ports and waits until it is ready.
func (s *service) startNode(ctx context.Context, program, dir string, common []string) error {
	ready := dir + ".ready"
	p, err := launch(program, dir, append([]string{
		"serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
		"--data-dir", dir, "--ready-file", ready,
	}, common...))
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, p)
	if err := p.awaitReady(ctx, ready); err != nil {
		return err
	}
	s.stops = append(s.stops, scrape(p.addrs.Admin))
	return nil
}

// startRaw starts this program as the raw writer.
func (s *service) startRaw(ctx context.Context, path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ready := path + ".ready"
	p, err := launch(self, path, []string{"-raw-writer", ready})
	if err != nil {
		return err
	}
	s.nodes = append(s.nodes, p)
	return p.awaitReady(ctx, ready)
}

// awaitReady waits for the file that a node writes when it is ready.
func (p *process) awaitReady(ctx context.Context, path string) error {
	return p.await(ctx, func() bool {
		text, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(text, &p.addrs) == nil
	})
}

// pids are the nodes' in their order, then the nats-servers'.
func (s *service) pids() (pids []int) {
	for _, p := range s.nodes {
		pids = append(pids, p.cmd.Process.Pid)
	}
	for _, p := range s.nats {
		pids = append(pids, p.cmd.Process.Pid)
	}
	return pids
}

// idleFor is how long the processes are watched without load.
const idleFor = 8 * time.Second

// idle measures what the processes use without load, once they have settled.
func (s *service) idle(ctx context.Context) (used []time.Duration, err error) {
	if err := pause(ctx, idleFor/4); err != nil {
		return nil, err
	}
	for _, pid := range s.pids() {
		cpu, err := bench.ProcessCPU(pid)
		if err != nil {
			return nil, err
		}
		used = append(used, -cpu)
	}
	if err := pause(ctx, idleFor); err != nil {
		return nil, err
	}
	for i, pid := range s.pids() {
		cpu, err := bench.ProcessCPU(pid)
		if err != nil {
			return nil, err
		}
		used[i] += cpu
	}
	return used, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends everything at once: nothing that it holds is of use any more.
func (s *service) stop() {
	for _, stop := range s.stops {
		stop()
	}
	for _, p := range slices.Concat(s.nodes, s.nats) {
		p.kill()
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// launch starts a program whose output goes to files beside path.
func launch(program, path string, args []string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), stderr: path + ".stderr", ended: make(chan struct{})} //nolint:noctx // our own programs, stopped by stop
	p.cmd.Env = cleanEnv()
	file, err := os.Create(p.stderr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the child has its own
	p.cmd.Stderr = file
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // it is killed
	}()
	return p, nil
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
			return p.complain(ctx.Err())
		case <-p.ended:
			return p.complain(errors.New("it ended"))
		}
	}
	return nil
}

func (p *process) complain(err error) error {
	text, _ := os.ReadFile(p.stderr)
	return fmt.Errorf("%s: %w\n%s", filepath.Base(p.cmd.Path), err, text)
}

// cleanEnv is the environment without settings of ours.
func cleanEnv() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ROOMCAST_") {
			env = append(env, kv)
		}
	}
	return env
}

// scrape reads a node's metrics as Prometheus would, until stop.
func scrape(admin string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(scrapeEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := get(ctx, "http://"+admin+"/metrics"); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "scrape:", err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
