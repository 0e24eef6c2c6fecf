package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of processor time in /proc: USER_HZ, 100 on every architecture
// that Go runs on.
const tick = 10 * time.Millisecond

// Fields of /proc/PID/stat behind the name in parentheses, proc_pid_stat(5).
const (
	statUser   = 11
	statSystem = 12
	statRSS    = 21 // pages
)

func processUsage(pid int) (usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("process %d: %w", pid, err)
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) <= statRSS {
		return usage{}, fmt.Errorf("process %d: /proc says %q", pid, text)
	}
	user, err1 := ticks(fields[statUser])
	system, err2 := ticks(fields[statSystem])
	pages, err3 := strconv.ParseInt(string(fields[statRSS]), 10, 64)
	return usage{user: user, system: system, rss: pages * int64(os.Getpagesize())}, errors.Join(err1, err2, err3)
}

// MachineBusy is the processor time since the system's start of everything but idling, waiting for disks, and
// what a guest uses, which is in another field already; time that the hypervisor took
// away is in it. The error is for systems that do not tell.
func MachineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line) // cpu user nice system idle iowait irq softirq steal guest guest_nice
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat says %q", line)
	}
	busy := time.Duration(0)
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		d, err := ticks(fields[i])
		if err != nil {
			return 0, err
		}
		busy += d
	}
	return busy, nil
}

func ticks(b []byte) (time.Duration, error) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	return time.Duration(n) * tick, err
}
