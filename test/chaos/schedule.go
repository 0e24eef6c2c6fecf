package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// clusterSize is how many nodes there are, and how many nats-servers.
const clusterSize = 3

// Step is one fault of a schedule.
type Step struct {
	At     time.Duration // since the faults began; later if the target is still busy
	Fault  FaultKind
	Target int           // which node or server
	For    time.Duration // how long, of those that last
}

// FaultKind is what a step does.
type FaultKind string

// The faults. Of a step that lasts the end belongs to it: a killed process is started
// again on its directory and addresses, a paused one goes on.
const (
	StepDown    FaultKind = "step-down"    // the log's leader gives up
	KillServer  FaultKind = "server kill"  // SIGKILL to a nats-server
	PauseServer FaultKind = "server pause" // SIGSTOP
	KillNode    FaultKind = "node kill"
	PauseNode   FaultKind = "node pause"
	CutBus      FaultKind = "bus cut" // a node's connections to NATS are closed
	CutSockets  FaultKind = "socket cut"
	KillAll     FaultKind = "kill of everything" // all nodes and servers at once; they start together
)

// Faults are all kinds, in the order in which a run reports them.
func Faults() []FaultKind {
	return []FaultKind{StepDown, KillServer, PauseServer, KillNode, PauseNode, CutBus, CutSockets, KillAll}
}

func (s Step) String() string {
	return fmt.Sprintf("%6.2fs %-12s %d for %.2fs", s.At.Seconds(), s.Fault, s.Target+1, s.For.Seconds())
}

// Schedule draws the faults of a run: the same for the same seed. Every kind comes at
// least once, but that even seeds alone end with the kill of everything. Several may be
// under way at once, also so many that the log has no quorum.
func Schedule(seed uint64, length time.Duration) []Step {
	const between = 800 * time.Millisecond // mean
	random := rand.New(rand.NewPCG(seed, 1))
	var kinds []FaultKind
	single := Faults()[:len(Faults())-1]
	for _, i := range random.Perm(len(single)) {
		kinds = append(kinds, single[i])
	}
	var steps []Step
	for at := between; at < length; at += between/2 + time.Duration(random.Int64N(int64(between))) {
		kind := single[random.IntN(len(single))]
		if len(kinds) > 0 {
			kind, kinds = kinds[0], kinds[1:]
		}
		step := Step{At: at, Fault: kind, Target: random.IntN(clusterSize)}
		if kind != StepDown && kind != CutBus && kind != CutSockets {
			step.For = 300*time.Millisecond + time.Duration(random.Int64N(int64(3*time.Second)))
		}
		if kind == PauseServer && random.IntN(3) == 0 { // another leads when it goes on, and it does not know
			step.For += 6 * time.Second
		}
		steps = append(steps, step)
	}
	if seed%2 == 0 {
		steps = append(steps, Step{At: length, Fault: KillAll, For: 500 * time.Millisecond})
	}
	return steps
}
