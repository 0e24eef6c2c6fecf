package presence

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

const (
	lookEvery  = 250 * time.Millisecond // who is there is looked at so often
	renewEvery = 8                      // looks between two renewals: three in a lease

	// snapshotTime is how long a node may take for the snapshots that are asked again.
	// Nobody waits for them, and those of huge rooms take longer than the deadline.
	snapshotTime = 3 * time.Second

	// questionBytes is about how many bytes of room names a question has at most: NATS
	// takes messages of 1 MiB.
	questionBytes = 256 << 10
)

// watches is the rooms that somebody watches at this node. One goroutine keeps them
// for as long as there are any.
type watches struct {
	p *Presence // static

	mu      sync.Mutex // guards what follows; held with no other, as a snapshot may take long
	rooms   map[room.Name]*watched
	running bool
	closed  bool
	asking  map[string]bool // nodes whose snapshots are under way; "" = renewing
}

func (w *watches) init(p *Presence) {
	w.p, w.rooms, w.asking = p, make(map[room.Name]*watched), make(map[string]bool)
}

// Watch is one who listens to a room.
type Watch struct {
	// static
	room  *watched
	tell  func(*Event) bool
	brief bool

	// guarded by the room's lock
	behind bool // it has not taken an event, and gets a snapshot instead
	large  bool // brief: it is told of occupancy
}

// Watch tells what happens in a room from now on: a snapshot, joins, leaves, until
// [Watch.Stop]. An event that tell does not take, by returning false, is dropped with all
// that follow, and a snapshot comes a quarter of a second later, and again until it is taken: a
// slow listener costs no backlog. tell is called one event at a time, with a lock held: it
// must not block and not call back.
func (p *Presence) Watch(name room.Name, tell func(*Event) bool) *Watch {
	return p.watches.add(name, &Watch{tell: tell})
}

// WatchBriefly is [Presence.Watch] for sockets: snapshots have at most [BriefMembers]
// members, and a room with more is told of by its occupancy, at most once a second.
func (p *Presence) WatchBriefly(name room.Name, tell func(*Event) bool) *Watch {
	return p.watches.add(name, &Watch{tell: tell, brief: true})
}

func (w *watches) add(name room.Name, l *Watch) *Watch {
	l.room = w.use(name)
	l.room.listen(l)
	return l
}

// use returns the room for one more listener.
func (w *watches) use(name room.Name) *watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rooms[name]
	if r == nil {
		r = newWatched(w.p, name)
		if !w.closed {
			w.rooms[name] = r
			w.p.wg.Go(r.begin)
			if !w.running {
				w.running = true
				w.p.wg.Go(w.run)
			}
		}
	}
	r.uses++
	return r
}

// Stop ends the watch: nothing is told after it has returned. It may be called again,
// and not by tell.
func (l *Watch) Stop() {
	if !l.room.unlisten(l) {
		return
	}
	w := &l.room.p.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.room.uses--; l.room.uses == 0 && w.rooms[l.room.name] == l.room {
		delete(w.rooms, l.room.name)
		l.room.end()
	}
}

func (w *watches) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for name, r := range w.rooms {
		delete(w.rooms, name)
		r.end()
	}
}

// all returns the watched rooms.
func (w *watches) all() map[room.Name]*watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.rooms)
}

// run looks after the watched rooms until there are none.
func (w *watches) run() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for looks := 1; ; looks++ {
		select {
		case <-tick.C:
		case <-w.p.ctx.Done():
			return
		}
		w.mu.Lock()
		w.running = len(w.rooms) > 0
		idle := !w.running
		w.mu.Unlock()
		if idle {
			return
		}
		w.look(looks)
	}
}

// look compares the rooms with the nodes that are there, and asks those whose members
// are not known.
func (w *watches) look(looks int) {
	nodes := w.p.cfg.Asker.Nodes()
	rooms := w.all()
	unknown := make(map[string]map[room.Name]*watched) // rooms by node
	for name, r := range rooms {
		for _, node := range r.look(nodes) {
			if unknown[node] == nil {
				unknown[node] = make(map[room.Name]*watched)
			}
			unknown[node][name] = r
		}
	}
	for _, n := range nodes {
		if rooms := unknown[n.Name]; rooms != nil {
			w.once(n.Name, func() { w.snapshots(n, rooms) })
		}
	}
	if looks%renewEvery == 0 {
		w.once("", func() { w.renew(rooms) })
	}
}

// once runs what asks a node, unless the same is under way.
func (w *watches) once(node string, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asking[node] || w.closed {
		return
	}
	w.asking[node] = true
	w.p.wg.Go(func() {
		do()
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.asking, node)
	})
}

// questions lists rooms in questions that are small enough.
func questions(rooms map[room.Name]*watched, snapshot bool) (list []*busv1.WatchQuestion) {
	names := chunks[string]{limit: questionBytes, send: func(names []string) {
		list = append(list, &busv1.WatchQuestion{Rooms: names, Snapshot: snapshot})
	}}
	for name := range rooms {
		names.add(string(name), len(name)+4)
	}
	names.flush()
	return list
}

// snapshots asks one node who is in rooms. One that does not answer is asked again at
// the next look.
func (w *watches) snapshots(n Node, rooms map[room.Name]*watched) {
	ctx, cancel := context.WithTimeout(w.p.ctx, snapshotTime)
	defer cancel()
	for _, q := range questions(rooms, true) {
		var got answered
		err := w.p.cfg.Asker.AskNode(ctx, n.Name, kindWatch, w.p.encode(q), func(body []byte) {
			got.take(w.p, n.Name, body)
		})
		if err != nil {
			w.p.log.Debug("watch", "other", n.Name, "err", err)
			return
		}
		if !w.p.lives(n) {
			return // it may be another life that has answered
		}
		for name, s := range got.rooms[n.Name] {
			if r := rooms[name]; r != nil {
				r.apply(n, s)
			}
		}
	}
}

// lives reports whether a node is there in the same life still.
func (p *Presence) lives(n Node) bool {
	return slices.ContainsFunc(p.cfg.Asker.Nodes(), func(now Node) bool {
		return now.Name == n.Name && now.Incarnation == n.Incarnation
	})
}

// renew keeps all nodes telling, and looks for events that were lost with none after
// them. The questions go out together: a node that does not answer makes each of them
// wait, and leases are short.
func (w *watches) renew(rooms map[room.Name]*watched) {
	var all sync.WaitGroup
	for _, q := range questions(rooms, false) {
		all.Go(func() {
			a := ask(w.p.ctx, w.p, kindWatch, q, func(node string, part *busv1.Watched) {
				for _, told := range part.GetRooms() {
					if r := rooms[room.Name(told.GetRoom())]; r != nil {
						r.claimed(node, told.GetRow(), told.GetSeq())
					}
				}
			})
			for _, name := range q.GetRooms() {
				rooms[room.Name(name)].attended(a)
			}
		})
	}
	all.Wait()
}

// answered puts the parts of answers together.
type answered struct {
	rooms map[string]map[room.Name]*snapshot // by node
}

// snapshot is who is in a room on one node.
type snapshot struct {
	row, seq uint64
	members  []room.Member
}

func (a *answered) take(p *Presence, node string, body []byte) {
	part := &busv1.Watched{}
	if err := decode(p, body, part); err != nil {
		return
	}
	a.add(node, part)
}

func (a *answered) add(node string, part *busv1.Watched) {
	if a.rooms == nil {
		a.rooms = make(map[string]map[room.Name]*snapshot)
	}
	if a.rooms[node] == nil {
		a.rooms[node] = make(map[room.Name]*snapshot)
	}
	for _, told := range part.GetRooms() {
		name := room.Name(told.GetRoom())
		s := a.rooms[node][name]
		if s == nil {
			s = &snapshot{row: told.GetRow(), seq: told.GetSeq()}
			a.rooms[node][name] = s
		}
		for _, m := range told.GetMembers() {
			s.members = append(s.members, memberOf(node, m))
		}
	}
}
