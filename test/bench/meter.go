package main

import (
	"os"
	"slices"
	"time"

	"github.com/roomcast/roomcast/internal/bench"
)

// meter measures what the processes of a service, this one and the machine use while
// something is done.
type meter struct {
	pids []int
	at   time.Time
	used []time.Duration // of each of the pids, this process, and the machine
}

// newMeter begins to measure.
func newMeter(pids []int) (*meter, error) {
	m := &meter{pids: pids, at: time.Now()}
	var err error
	m.used, err = m.read()
	return m, err
}

func (m *meter) read() (used []time.Duration, err error) {
	for _, pid := range append(slices.Clip(m.pids), os.Getpid()) {
		cpu, err := bench.ProcessCPU(pid)
		if err != nil {
			return nil, err
		}
		used = append(used, cpu)
	}
	busy, err := bench.MachineBusy()
	return append(used, busy), err
}

// stop returns what was used since the begin.
func (m *meter) stop() (bench.Usage, error) {
	u := bench.Usage{Seconds: time.Since(m.at).Seconds()}
	now, err := m.read()
	if err != nil {
		return u, err
	}
	last := len(m.pids)
	for i, pid := range m.pids {
		p := bench.Process{PID: pid, CPU: (now[i] - m.used[i]).Seconds()}
		u.Processes = append(u.Processes, p)
		u.CPU += p.CPU
	}
	u.Self = (now[last] - m.used[last]).Seconds()
	u.Other = max(0, (now[last+1]-m.used[last+1]).Seconds()-u.CPU-u.Self)
	return u, nil
}

// metered measures what is done meanwhile.
func metered(pids []int, do func() error) (bench.Usage, error) {
	m, err := newMeter(pids)
	if err != nil {
		return bench.Usage{}, err
	}
	if err := do(); err != nil {
		return bench.Usage{}, err
	}
	return m.stop()
}
