package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestFirstSignalCancels(t *testing.T) { //nolint:paralleltest // a signal reaches every handler of the process
	drained := errors.New("drained")
	err := untilSignal(t.Context(), func(ctx context.Context) error {
		signalSelf(t)
		<-ctx.Done()
		return drained
	})
	if !errors.Is(err, drained) {
		t.Errorf("got %v, want what the drain returned", err)
	}
}

func TestSignalWhileStarting(t *testing.T) { //nolint:paralleltest // a signal reaches every handler of the process
	err := untilSignal(t.Context(), func(ctx context.Context) error {
		signalSelf(t)
		<-ctx.Done()
		return fmt.Errorf("open the log: %w", ctx.Err())
	})
	if err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) { //nolint:paralleltest // a signal reaches every handler of the process
	release, returned := make(chan struct{}), make(chan struct{})
	err := untilSignal(t.Context(), func(ctx context.Context) error {
		defer close(returned)
		signalSelf(t)
		<-ctx.Done()
		signalSelf(t)
		<-release // a drain that hangs
		return nil
	})
	if !errors.Is(err, errStopped) {
		t.Errorf("got %v, want %v", err, errStopped)
	}
	close(release)
	<-returned
}

func TestNoSignal(t *testing.T) { //nolint:paralleltest // as above
	failed := errors.New("failed")
	if err := untilSignal(t.Context(), func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v, want the function's own error", err)
	}
}

func signalSelf(t *testing.T) {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Error(err)
		return
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
