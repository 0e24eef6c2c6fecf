package bench

import (
	"os"
	"time"
)

// usage is what a process has used until now.
type usage struct {
	user, system time.Duration
	rss          int64 // bytes
}

func (u usage) cpu() time.Duration { return u.user + u.system }

// ProcessCPU is the processor time that a process has used until now, to 10 ms. The
// error is for a process that is not there and for systems that do not tell.
func ProcessCPU(pid int) (time.Duration, error) {
	u, err := processUsage(pid)
	return u.cpu(), err
}

// sample is what processes and the machine have used at one time.
type sample struct {
	at      time.Duration // of the run's clock
	servers []usage
	self    usage
	busy    time.Duration // of all processors, by everything
}

// sampler reads the same processes again and again.
type sampler struct {
	clock clock
	pids  []int
}

// sample reads everything at about one time. Without processes to watch it reads
// nothing, so that it works on every system.
func (s *sampler) sample() (sample, error) {
	now := sample{at: time.Duration(s.clock.now())}
	if len(s.pids) == 0 {
		return now, nil
	}
	for _, pid := range s.pids {
		u, err := processUsage(pid)
		if err != nil {
			return sample{}, err
		}
		now.servers = append(now.servers, u)
	}
	var err error
	if now.self, err = processUsage(os.Getpid()); err != nil {
		return sample{}, err
	}
	now.busy, err = MachineBusy()
	return now, err
}

// Process is what one process of the service used.
type Process struct {
	PID    int     `json:"pid"`
	User   float64 `json:"cpuUserSeconds"`
	System float64 `json:"cpuSystemSeconds"`
	CPU    float64 `json:"cpuSeconds"`
	RSS    int64   `json:"rssBytes"` // at the end
}

// Usage is what was used between two samples.
type Usage struct {
	Seconds   float64   `json:"seconds"`
	Processes []Process `json:"processes,omitempty"`
	CPU       float64   `json:"cpuSeconds"`      // of the processes
	Self      float64   `json:"loadCpuSeconds"`  // of the load generator
	Other     float64   `json:"otherCpuSeconds"` // of everything else on the machine
}

func (s *sampler) between(from, to sample) Usage {
	used := Usage{Seconds: (to.at - from.at).Seconds()}
	for i, pid := range s.pids {
		a, b := from.servers[i], to.servers[i]
		p := Process{
			PID: pid, User: (b.user - a.user).Seconds(), System: (b.system - a.system).Seconds(),
			CPU: (b.cpu() - a.cpu()).Seconds(), RSS: b.rss,
		}
		used.Processes = append(used.Processes, p)
		used.CPU += p.CPU
	}
	used.Self = (to.self.cpu() - from.self.cpu()).Seconds()
	used.Other = max(0, (to.busy-from.busy).Seconds()-used.CPU-used.Self)
	return used
}
