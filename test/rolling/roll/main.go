// Program roll restarts the three nodes of a cluster one after the other under load
// and prints what the clients noticed: see package rolling. It must never run its
// clients in its own process: a process has only so many descriptors.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/roomcast/roomcast/test/rolling"
)

func main() {
	c := rolling.Config{Log: os.Stderr}
	flag.StringVar(&c.Roomcast, "roomcast", "bin/roomcast", "the program")
	flag.StringVar(&c.NATS, "nats", "", "the nats-server (default built from go.mod's version)")
	flag.StringVar(&c.Dir, "dir", "", "keep logs and data here (default a directory that is removed)")
	flag.IntVar(&c.Sockets, "sockets", 9000, "sockets in all")
	flag.IntVar(&c.Fleets, "fleets", 2, "processes that share the sockets")
	flag.IntVar(&c.Rooms, "rooms", 200, "rooms; each socket is in two")
	flag.IntVar(&c.PerSecond, "rate", 40, "messages a second")
	flag.DurationVar(&c.Window, "drain-window", 20*time.Second, "of the nodes")
	flag.DurationVar(&c.Quiet, "quiet", 3*time.Second, "between two restarts")
	fleet := flag.Bool("fleet", false, "only be clients, on orders from standard input")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *fleet {
		err = rolling.ServeFleet(ctx, os.Stdin, os.Stdout)
	} else {
		err = run(ctx, c)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "roll:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c rolling.Config) error {
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "roomcast-rolling-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c.Dir = dir
	}
	if c.NATS == "" {
		c.NATS = filepath.Join(c.Dir, "nats-server")
		build := exec.CommandContext(ctx, "go", "build", "-o", c.NATS, "github.com/nats-io/nats-server/v2")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build nats-server: %w\n%s", err, out)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.Fleet = []string{self, "-fleet"}
	report, err := rolling.Roll(ctx, c)
	if err != nil {
		return err
	}
	fmt.Print(report)
	if problems := append(report.Problems(), report.PaceProblems()...); len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}
