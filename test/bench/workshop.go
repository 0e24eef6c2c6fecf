package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/roomcast/roomcast/internal/bench"
)

// workshop has what all runs share.
type workshop struct {
	*options
	dir     string // of its own, removed at the end
	keyFile string
	token   string
	cert    string // of rows with TLS, made when first needed
	certKey string
}

// newWorkshop builds what is to be built and makes the key and the token.
func newWorkshop(ctx context.Context, o *options, chosen []row) (*workshop, error) {
	dir, err := os.MkdirTemp("", "roomcast-bench-")
	if err != nil {
		return nil, err
	}
	w := &workshop{options: o, dir: dir, keyFile: filepath.Join(dir, "key")}
	if err := w.prepare(ctx, chosen); err != nil {
		w.clean()
		return nil, err
	}
	return w, nil
}

func (w *workshop) clean() { _ = os.RemoveAll(w.dir) }

func (w *workshop) prepare(ctx context.Context, chosen []row) error {
	if w.roomcast == "" {
		w.roomcast = filepath.Join(w.dir, "roomcast")
		if err := build(ctx, w.roomcast, "./cmd/roomcast"); err != nil {
			return err
		}
	}
	for _, r := range chosen {
		if r.tls && w.cert == "" {
			var err error
			if w.cert, w.certKey, err = writeCertificate(w.dir); err != nil {
				return err
			}
		}
		if r.external() && w.nats == "" {
			w.nats = filepath.Join(w.dir, "nats-server")
			if err := build(ctx, w.nats, "github.com/nats-io/nats-server/v2"); err != nil {
				return err
			}
		}
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails, as documented
	if err := os.WriteFile(w.keyFile, []byte(hex.EncodeToString(secret[:])), 0o600); err != nil {
		return err
	}
	mint := exec.CommandContext(ctx, w.roomcast, "token", "mint", "--user", "bench", "--rooms", "*", "--rpc", "publish", "--ttl", "24h", "--key-file", w.keyFile)
	text, err := mint.Output()
	w.token = string(bytes.TrimSpace(text))
	return explain(err, "token mint")
}

// build builds a program of this module or of a module that it requires.
func build(ctx context.Context, path, pkg string) error {
	fmt.Fprintln(os.Stderr, "building", pkg)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err := cmd.Output()
	return explain(err, "build "+pkg)
}

// explain adds what a command said to its failure.
func explain(err error, what string) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%s: %w\n%s", what, err, exit.Stderr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// measure runs a row until it has as many undisturbed runs as are asked for, or has
// tried often enough.
func (w *workshop) measure(ctx context.Context, r *row) (result, error) {
	found := result{row: r}
	run := r.run
	if run == nil {
		run = once
	}
	for try := range w.runs + w.retries {
		waited, err := awaitQuiet(ctx, w.quiet)
		if err != nil {
			return found, err
		}
		report, err := run(ctx, w, r)
		if err != nil {
			return found, err
		}
		found.add(report, w.runs)
		fmt.Fprintf(os.Stderr, "%s, run %d: %s; something else used %.0f %% of the machine; waited %s for a quiet second\n",
			r.name, try+1, r.summary(report), 100*disturbance(report), waited.Round(time.Second))
		if found.undisturbed(w.quiet) >= w.runs {
			break
		}
	}
	return found, nil
}

// measurement is one run of a row.
type measurement struct {
	bench.Report
	first []bench.Report  // of the runs to compare with
	idle  []time.Duration // processor time of each process in idleFor without load

	resumed   *resumed    // of the rows of sockets that come back
	published []publishes // of the rows of publishing
	siege     *siege      // of the rows of hostile clients
}

// reports are those of all its runs.
func (m *measurement) reports() []*bench.Report {
	all := []*bench.Report{&m.Report}
	for i := range m.first {
		all = append(all, &m.first[i])
	}
	return all
}

// failed reports whether a run had errors.
func (m *measurement) failed() bool {
	return slices.ContainsFunc(m.reports(), func(r *bench.Report) bool { return r.Errors.Any() })
}

// once measures a row: first what it is compared with.
func once(ctx context.Context, w *workshop, r *row) (*measurement, error) {
	m := &measurement{first: make([]bench.Report, len(r.first))}
	for i, flags := range r.first {
		if err := w.load(ctx, r, flags, nil, &m.first[i]); err != nil {
			return nil, err
		}
	}
	idle := &m.idle
	if !r.idle {
		idle = nil
	}
	return m, w.load(ctx, r, r.flags, idle, &m.Report)
}

// load starts nodes, measures what they use without load if that is asked for, puts a
// load on them, and stops them.
func (w *workshop) load(ctx context.Context, r *row, flags []string, idle *[]time.Duration, report *bench.Report) error {
	dir, err := os.MkdirTemp(w.dir, "run-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s, err := w.start(ctx, r, dir)
	defer s.stop()
	if err != nil {
		return err
	}
	if idle != nil {
		if *idle, err = s.idle(ctx); err != nil {
			return err
		}
	}
	return w.bench(ctx, s, r, flags, report)
}

// bench puts a load on the first of the running nodes.
func (w *workshop) bench(ctx context.Context, s *service, r *row, flags []string, report *bench.Report) error {
	at := s.nodes[0].addrs
	url := "http://" + at.HTTP
	if r.tls {
		url = "https://" + at.HTTP
	}
	args := []string{
		"bench", "--json", "--url", url, "--grpc-addr", at.GRPC,
		"--warmup", w.warmup.String(), "--duration", w.duration.String(),
	}
	if at.Admin != "" {
		args = append(args, "--admin-addr", at.Admin)
	}
	if r.tls {
		args = append(args, "--ca", w.cert, "--tls")
	}
	if r.tokens {
		args = append(args, "--token-key-file", w.keyFile)
	}
	for _, pid := range s.pids() {
		args = append(args, "--server-pid", strconv.Itoa(pid))
	}
	load := exec.CommandContext(ctx, w.roomcast, append(args, flags...)...)
	load.Env = append(cleanEnv(), "ROOMCAST_TOKEN="+w.token)
	text, err := load.Output()
	if json.Unmarshal(text, report) != nil {
		return explain(err, "roomcast bench")
	}
	return nil // an error with a report is in the report
}
