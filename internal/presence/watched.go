package presence

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// maxEarly bounds the messages of a node that wait for its snapshot; more of them are a
// hole, which the next snapshot mends.
const maxEarly = 1024

// watched is one room that somebody watches at this node: what each node has told of
// its members, put together.
type watched struct {
	p      *Presence // static
	name   room.Name
	ctx    context.Context //nolint:containedctx // ends when nobody watches any more
	cancel context.CancelFunc

	uses int // its listeners, those that come and go too; guarded by watches.mu

	mu        sync.Mutex // guards what follows
	views     map[string]*view
	users     map[string]int // sockets of each user
	count     int
	listeners map[*Watch]struct{}
	ready     bool     // the first snapshot may be told
	whole     bool     // this node knows who everybody is
	missing   []string // nodes that have not answered
	hearing   bool
	changed   bool          // since occupied
	occupied  time.Time     // when occupancy was told
	snap      [2]*Event     // full, brief: made when needed, until the next change
	brief     []room.Member // of brief snapshots; nil = to be found
}

// view is what one node has told. It goes by the row of its events: another row, or a
// hole in it, and the view needs a snapshot.
type view struct {
	incarnation string // whose members these are; empty = nobody's yet
	row, seq    uint64
	members     map[string]room.Member // by connection
	stale       bool                   // needs a snapshot
	early       []*busv1.PresenceEvents
	claim       uint64 // the node says that it has told so many
	gone        bool   // the last look did not find the node
}

func newWatched(p *Presence, name room.Name) *watched {
	r := &watched{
		p: p, name: name,
		views: make(map[string]*view), users: make(map[string]int), listeners: make(map[*Watch]struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(p.ctx)
	return r
}

// view returns what a node has told. The lock is held.
func (r *watched) view(node string) *view {
	v := r.views[node]
	if v == nil {
		v = &view{members: make(map[string]room.Member), stale: true}
		r.views[node] = v
	}
	return v
}

// begin hears the room, then asks everybody: so nothing is lost between the two.
func (r *watched) begin() {
	r.hear()
	nodes := r.p.cfg.Asker.Nodes()
	var got answered
	q := &busv1.WatchQuestion{Rooms: []string{string(r.name)}, Snapshot: true}
	a := ask(r.ctx, r.p, kindWatch, q, func(node string, part *busv1.Watched) { got.add(node, part) })
	for _, n := range nodes {
		s := got.rooms[n.Name][r.name]
		if s != nil && !slices.Contains(a.Missing, n.Name) && r.p.lives(n) { // else another life may have answered
			r.apply(n, s)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attendedLocked(a)
	r.ready = true
	for l := range r.listeners {
		r.offerSnapshot(l)
	}
}

// hear begins to hear the room, if it can. All must be asked again after it.
func (r *watched) hear() {
	stop, err := r.p.cfg.Teller.Hear(r.ctx, r.name, r.heard)
	if err != nil {
		r.p.log.Debug("hear", "room", r.name, "err", err)
		return
	}
	context.AfterFunc(r.ctx, stop)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hearing = true
	for _, v := range r.views {
		v.stale = true
	}
}

// end ends what is heard.
func (r *watched) end() { r.cancel() }

// heard takes what a node tells.
func (r *watched) heard(body []byte) {
	told := &busv1.PresenceEvents{}
	if err := decode(r.p, body, told); err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(told.GetNode(), r.view(told.GetNode()), told)
}

// take takes events that follow what is known, and keeps others for after the snapshot
// that they make necessary. The lock is held.
func (r *watched) take(node string, v *view, told *busv1.PresenceEvents) {
	if v.stale || told.GetRow() != v.row || told.GetSeq() > v.seq+1 {
		v.stale = true
		if len(v.early) < maxEarly {
			v.early = append(v.early, told)
		}
		return
	}
	for i, e := range told.GetEvents() {
		seq := told.GetSeq() + uint64(i)
		if seq <= v.seq {
			continue
		}
		v.seq = seq
		m := memberOf(node, e.GetMember())
		if left := room.LeaveReason(e.GetLeft()); left != "" {
			r.leave(v, m.Connection, left)
		} else {
			r.join(v, m)
		}
	}
}

// join and leave change who is there and tell it. The lock is held.
func (r *watched) join(v *view, m room.Member) {
	r.leave(v, m.Connection, room.Closed) // it is not there but after a loss
	v.members[m.Connection] = m
	r.count++
	r.users[m.User]++
	r.moved(m)
	r.tell(&Event{Kind: Join, Room: r.name, Member: m})
}

func (r *watched) leave(v *view, connection string, why room.LeaveReason) {
	m, there := v.members[connection]
	if !there {
		return
	}
	delete(v.members, connection)
	r.count--
	if r.users[m.User]--; r.users[m.User] == 0 {
		delete(r.users, m.User)
	}
	r.moved(m)
	r.tell(&Event{Kind: Leave, Room: r.name, Member: m, Reason: why})
}

// apply makes a node's view what its snapshot says. What differs is told; of who is not
// there any more nobody knows why. The members of another life of the node were lost.
func (r *watched) apply(n Node, s *snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.row == 0 {
		return // it tells nothing any more: it is going
	}
	v := r.view(n.Name)
	why := room.Closed
	if v.incarnation != n.Incarnation {
		why = room.NodeLost
	}
	there := make(map[string]room.Member, len(s.members))
	for _, m := range s.members {
		there[m.Connection] = m
	}
	for connection, m := range v.members {
		if now, still := there[connection]; !still || now.User != m.User {
			r.leave(v, connection, why)
		}
	}
	for connection, m := range there {
		if _, known := v.members[connection]; !known {
			r.join(v, m)
		}
	}
	v.incarnation, v.row, v.seq, v.stale, v.claim = n.Incarnation, s.row, s.seq, false, 0
	early := v.early
	v.early = nil
	for _, told := range early {
		if told.GetRow() == v.row {
			r.take(n.Name, v, told)
		}
	}
	r.answeredBy(n.Name)
}

// attended notes who has answered a question to all.
func (r *watched) attended(a Attendance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attendedLocked(a)
}

func (r *watched) attendedLocked(a Attendance) {
	// With nodes missing it is not told whether there are others: the next renewal tells.
	r.whole, r.missing = a.Complete, slices.Clone(a.Missing)
}

// answeredBy notes that a node is not missing any more. The lock is held.
func (r *watched) answeredBy(node string) {
	r.missing = slices.DeleteFunc(r.missing, func(missing string) bool { return missing == node })
}

// claimed compares what a node says it has told with what was heard. What is under way
// has until the next look.
func (r *watched) claimed(node string, row, seq uint64) {
	if row == 0 {
		return // it is going: what it still tells counts
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.view(node)
	v.stale = v.stale || v.row != row
	v.claim = seq
}

// look compares the room with the nodes that are there, and returns those to ask for a
// snapshot. It also does what is due to listeners.
func (r *watched) look(nodes []Node) (unknown []string) {
	r.mu.Lock()
	if ready, hearing := r.ready, r.hearing; !ready || !hearing {
		r.mu.Unlock()
		if !ready {
			return nil // begin asks
		}
		r.hear()
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	for name, v := range r.views {
		at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name })
		switch {
		case at < 0 && !v.gone:
			v.gone = true // what it has told may still be under way
		case at < 0:
			r.lost(v)
			delete(r.views, name)
			r.answeredBy(name)
		case v.incarnation != "" && v.incarnation != nodes[at].Incarnation:
			r.lost(v) // and another has come in its place
			v.incarnation, v.stale = "", true
		}
	}
	for _, n := range nodes {
		v := r.view(n.Name)
		v.gone = false
		v.stale = v.stale || v.seq < v.claim
		if v.stale {
			unknown = append(unknown, n.Name)
		}
	}
	r.serve(time.Now())
	return unknown
}

// lost tells that a node's members are gone. The lock is held.
func (r *watched) lost(v *view) {
	for connection := range v.members {
		r.leave(v, connection, room.NodeLost)
	}
}

// decode reads what another node has sent.
func decode(p *Presence, body []byte, m proto.Message) error {
	err := proto.Unmarshal(body, m)
	if err != nil {
		p.log.Warn("unreadable", "err", err)
	}
	return err
}
