package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper sleeps to within 0.1 ms. The runtime's own timers are late by up to a
// millisecond on Linux, which would count as latency; a timer of the kernel is not, and
// waiting for it holds no thread.
type sleeper struct{ timer *os.File }

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	return &sleeper{os.NewFile(uintptr(fd), "timer")}, nil
}

// sleep waits for a time above 0, or less if ctx ends. It reports whether ctx goes on.
func (s *sleeper) sleep(ctx context.Context, d time.Duration) bool {
	raw, err := s.timer.SyscallConn()
	if err != nil {
		return false
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	var set error
	if raw.Control(func(fd uintptr) { set = unix.TimerfdSettime(int(fd), 0, &spec, nil) }) != nil || set != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = s.timer.SetReadDeadline(time.Now()) })
	defer stop()
	var expirations [8]byte
	_, err = s.timer.Read(expirations[:])
	return err == nil
}

func (s *sleeper) close() { _ = s.timer.Close() }
