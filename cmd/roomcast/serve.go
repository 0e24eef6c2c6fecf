package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/roomcast/roomcast/internal/node"
)

// serveCmd runs a node until a signal or a failure.
type serveCmd struct {
	Settings Settings `embed:""`
}

// errStopped ends serve after a second signal, without waiting for the drain.
var errStopped = errors.New("stopped at once by a second signal")

// Run drains on the first SIGTERM or SIGINT and stops at once on the second. What
// fails before the node is ready is configuration or environment: exit code 2.
func (c *serveCmd) Run(ctx context.Context, p *process) error {
	cfg, err := c.Settings.nodeConfig()
	if err != nil {
		return &usageError{err}
	}
	var ready atomic.Bool
	cfg.OnReady = func(addrs node.Addrs) {
		ready.Store(true)
		if cfg.Dev {
			printBanner(p, addrs, cfg.Version)
		}
	}
	logger := newLogger(p.stderr, c.Settings.Logs)
	n, err := node.New(cfg, logger)
	if err != nil {
		return &usageError{err}
	}
	err = untilSignal(ctx, n.Run)
	switch {
	case err == nil || errors.Is(err, errStopped) || ready.Load():
		return err
	default:
		return &usageError{err}
	}
}

// untilSignal runs fn and cancels its context at the first signal; that fn then says
// so is no failure. At the second it returns [errStopped] without waiting for fn.
func untilSignal(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	for seen := 0; ; {
		select {
		case err := <-done:
			if seen > 0 && errors.Is(err, context.Canceled) {
				return nil // it had not finished starting
			}
			return err
		case sig := <-signals:
			if seen++; seen > 1 {
				return fmt.Errorf("%w (%s)", errStopped, sig)
			}
			cancel()
		}
	}
}
