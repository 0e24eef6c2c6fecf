package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/nodetest"
)

const (
	roomCount  = 100
	shortRooms = 10 // of them: with a short history
	faultTime  = 12 * time.Second
)

// plan is what a run does.
type plan struct {
	seed    uint64
	program string
	rooms   []string
	sockets int
	seats   int // rooms of a socket
	steps   []Step
	broken  func(room string) bool // the program is known to lose the room's messages
}

// TestChaos runs seeds, as many at a time as there are cores, and prints a line for
// each. A seed again:
//
//	make soak SEED=17 SEEDS=1
func TestChaos(t *testing.T) {
	t.Parallel()
	for i := range *seedCount {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			r := newRun(t, plan{
				seed: seed, program: built.roomcast, rooms: roomNames(), sockets: 200, seats: 10,
				steps: Schedule(seed, faultTime), broken: func(string) bool { return false },
			})
			r.run()
			faults := Check(&r.story)
			verdict := "ok    "
			if len(faults) > 0 || t.Failed() {
				verdict = "FAILED"
			}
			fmt.Printf("seed %-3d %s %5.1f s: %s\n", seed, verdict, time.Since(began).Seconds(), r.summary())
			r.report(faults)
		})
	}
}

// run is one seed.
type run struct {
	plan
	t       testing.TB
	dir     string
	cluster *cluster
	sockets []*socket
	breaker *breaker
	began   time.Time
	story   Story
}

// newRun starts the processes. Their files stay if the run fails.
func newRun(t testing.TB, p plan) *run {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("roomcast-chaos-seed%d-", p.seed)) //nolint:usetesting // it stays if the run fails
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the processes wrote, n1.log to s3.log, is in %s\nagain: make soak SEED=%d SEEDS=1", dir, p.seed)
			return
		}
		_ = os.RemoveAll(dir)
	})
	r := &run{t: t, plan: p, dir: dir}
	loseEvery := 1 << 60
	if p.seed%2 == 0 { // what NATS republishes is lost now and then, as it may be
		loseEvery = 50
	}
	r.cluster = startCluster(t, p.program, dir, loseEvery)
	return r
}

func roomNames() (rooms []string) {
	for i := range roomCount {
		name := fmt.Sprintf("room %02d", i) // the space must be encoded
		if i < shortRooms {
			name = fmt.Sprintf("short:%02d", i)
		}
		rooms = append(rooms, name)
	}
	return rooms
}

// run publishes, breaks and heals, and tells the story.
func (r *run) run() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	r.began = time.Now()
	var wg sync.WaitGroup
	random := rand.New(rand.NewPCG(r.seed, 2))
	var nodes []string
	for _, n := range r.cluster.nodes {
		nodes = append(nodes, n.http)
	}
	for i := range r.plan.sockets {
		var rooms []string
		for _, room := range random.Perm(len(r.rooms))[:r.seats] {
			rooms = append(rooms, r.rooms[room])
		}
		s := newSocket(i, r.seed, nodes, rooms, r.began)
		r.sockets = append(r.sockets, s)
		wg.Go(func() { s.run(ctx) })
	}
	publishing, giveUp := context.WithCancel(ctx)
	ps := startPublishers(publishing, r.cluster, r.seed, r.rooms, r.began)
	r.breaker = newBreaker(r.cluster, r.sockets)
	r.breaker.run(r.steps)
	r.cluster.heal()
	timer := time.AfterFunc(patience, giveUp)
	var strange []string
	r.story.Publications, strange = ps.finish()
	timer.Stop()
	giveUp()
	for _, s := range strange {
		r.t.Errorf("an answer that no fault explains: %s", s)
	}
	for _, s := range r.sockets {
		s.settle()
	}
	r.story.Log = readLog(r.t, r.breaker.nc)
	r.untilSettled()
	for _, s := range r.sockets {
		r.story.Sockets = append(r.story.Sockets, s.seen())
	}
	cancel()
	wg.Wait()
}

// untilSettled waits until every socket has come to the end of its rooms, or for so long
// that the rest will not come: the checker says what is missing. Rooms that are broken do
// not come to their ends: in them nothing may be under way any more.
func (r *run) untilSettled() {
	r.t.Helper()
	const longest, quiet = patience, time.Second
	ends := r.ends()
	deadline, since, before := time.Now().Add(longest), time.Now(), 0
	nodetest.Eventually(r.t, 2*longest, "the sockets settle", func() bool {
		events := 0
		for _, s := range r.sockets {
			settled, seen := s.settled(ends)
			if !settled {
				return time.Now().After(deadline)
			}
			events += seen
		}
		if events != before {
			since, before = time.Now(), events
		}
		return len(ends) == len(r.rooms) || time.Since(since) > quiet || time.Now().After(deadline)
	})
}

// ends are the sequences of the last messages of the rooms that are not broken.
func (r *run) ends() map[string]uint64 {
	r.t.Helper()
	ends := make(map[string]uint64)
	for _, room := range r.rooms {
		if r.broken(room) {
			continue
		}
		ends[room] = 0
		if entries := r.story.Log.Rooms[room]; len(entries) > 0 {
			last, err := parsePlace(entries[len(entries)-1].ID)
			if err != nil {
				r.t.Fatal(err)
			}
			ends[room] = last.seq
		}
	}
	return ends
}

// summary is what was done, in one line.
func (r *run) summary() string {
	var did []string
	for _, kind := range Faults() {
		if n := r.breaker.done[kind].Load(); n > 0 {
			did = append(did, fmt.Sprintf("%d× %s", n, kind))
		}
	}
	again, twice := 0, 0
	for _, p := range r.story.Publications {
		if p.Attempts > 1 {
			again++
		}
		if p.Duplicate {
			twice++
		}
	}
	counts := make(map[Kind]int)
	gaps := make(map[string]int)
	resumes := 0
	for _, events := range r.story.Sockets {
		for _, e := range events {
			counts[e.Kind]++
			if e.Kind == Asked && e.ID != "" {
				resumes++
			}
			if e.Kind == Gap {
				gaps[e.Text]++
			}
		}
	}
	return fmt.Sprintf("%s; %d published (%d sent again, %d of them told duplicate); %d sockets, %d connections, %d resumes, %d messages, gaps %v",
		strings.Join(did, ", "), len(r.story.Publications), again, twice, len(r.sockets), counts[Connected], resumes, counts[Message], gaps)
}

// report says what is broken, with the last events of the socket, and what was done.
func (r *run) report(faults []Fault) {
	r.t.Helper()
	if len(faults) == 0 {
		return
	}
	const most, context = 10, 25
	for i, f := range faults {
		if i == most {
			r.t.Errorf("and %d more", len(faults)-most)
			break
		}
		who := ""
		if f.Socket >= 0 {
			who = fmt.Sprintf("socket %d, ", f.Socket)
		}
		r.t.Errorf("%s%s: %s: %s%s", who, f.Room, f.What, f.Detail, r.around(f, context))
	}
	var schedule []string
	for _, s := range r.steps {
		schedule = append(schedule, s.String())
	}
	r.t.Logf("the schedule:\n%s", strings.Join(schedule, "\n"))
	r.write(faults)
}

// around are the last events of a fault's socket in its room before it, a line each.
func (r *run) around(f Fault, most int) string {
	if f.Socket < 0 {
		return ""
	}
	var lines []string
	for _, e := range r.story.Sockets[f.Socket][:f.at+1] {
		if e.Room == f.Room || e.Room == "" {
			lines = append(lines, "    "+e.String())
		}
	}
	return "\n" + strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// write keeps what the sockets of the faults saw, beside the logs.
func (r *run) write(faults []Fault) {
	for _, f := range faults {
		if f.Socket < 0 {
			continue
		}
		var text strings.Builder
		for _, e := range r.story.Sockets[f.Socket] {
			text.WriteString(e.String() + "\n")
		}
		path := filepath.Join(r.dir, fmt.Sprintf("socket%d.events", f.Socket))
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			r.t.Error(err)
		}
	}
}
