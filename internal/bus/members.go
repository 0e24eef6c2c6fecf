package bus

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
)

const (
	heartbeatSubject = "rc.ctl.hb"
	heartbeatEvery   = time.Second
	memberLease      = 3500 * time.Millisecond // a node that is not heard for this long is not there
	leaveTimeout     = 200 * time.Millisecond

	// A node that has not heard itself for deafAfter cannot tell who is gone; once it
	// has heard itself for settleTime it has heard everybody.
	deafAfter  = 2500 * time.Millisecond
	settleTime = heartbeatEvery + 200*time.Millisecond
	helloTime  = 300 * time.Millisecond // for the others to answer a hello
)

// Member is one live node.
type Member struct {
	Node        string
	Incarnation string    // tells one life of the node from another
	Since       time.Time // when this life began, by the node's own clock
	Draining    bool
}

// members is who is there. Every node tells the others of itself and believes what it
// has heard itself within the lease, by its own clock; there is nobody to agree with.
// While it does not hear even itself, because it was stopped or NATS is away, leases do
// not end.
type members struct {
	bus  *Bus      // static
	own  agreement // static
	sub  *nats.Subscription
	poke chan struct{} // one slot: tell the others now
	gone chan struct{} // closed once this node has told its last

	contested atomic.Pointer[map[string]bool] // namespaces; nil = none

	mu        sync.Mutex
	self      Member
	hello     bool // the next heartbeat asks the others to tell of themselves
	others    map[string]*member
	namesake  time.Time // when a younger node with our name was last heard
	echoed    time.Time // when this node last heard itself
	settled   time.Time // when it knows who is there; zero = it has not heard itself yet
	lost      time.Time // when a lease last ended; zero = the logs have answered since
	uncertain bool      // send a canary: a lease has ended
}

// member is what is known of another node.
type member struct {
	Member
	heard    time.Time
	hash     uint64
	differs  string   // its configuration is not ours; empty = it is, or is not known yet
	contests []string // namespaces whose rooms have another log there
}

func newMembers(b *Bus) *members {
	return &members{
		bus:    b,
		own:    newAgreement(b.cfg.Policies),
		poke:   make(chan struct{}, 1),
		gone:   make(chan struct{}),
		self:   Member{Node: b.cfg.Node, Incarnation: newEpoch(), Since: time.Now()},
		hello:  true,
		others: make(map[string]*member),
	}
}

// start begins to tell and to hear.
func (m *members) start() error {
	var err error
	if m.sub, err = m.bus.ctl.Subscribe(heartbeatSubject, m.hear); err != nil {
		return fmt.Errorf("subscribe to heartbeats: %w", err)
	}
	m.bus.wg.Go(m.run)
	return nil
}

// run tells the others of this node, at last that it goes: all in one goroutine, so that
// nothing brings it back.
func (m *members) run() {
	defer close(m.gone)
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		m.tell(false)
		m.mu.Lock()
		uncertain := m.uncertain
		m.uncertain = false
		m.mu.Unlock()
		if uncertain {
			m.bus.sendCanary()
		}
		m.prove(time.Now())
		select {
		case <-tick.C:
		case <-m.poke:
		case <-m.bus.ctx.Done():
			m.leave()
			return
		}
	}
}

// change changes what the heartbeats say and tells it at once.
func (m *members) change(how func()) {
	m.mu.Lock()
	how()
	m.mu.Unlock()
	m.wake()
}

// wake has run look again now. It never blocks.
func (m *members) wake() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// whole reports whether this node knows who is there: it hears itself, has done so for
// longer than others are silent between two words, and is not on the smaller side of a
// NATS that has come apart, where everybody else seems gone.
func (m *members) whole(now time.Time) bool {
	m.live(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Sub(m.echoed) <= deafAfter && m.bus.ctl.IsConnected() && !now.Before(m.settled) && m.lost.IsZero()
}

// prove looks whether the logs have answered since a lease ended. Then NATS is whole,
// and who seemed gone may be there again: they are asked to tell of themselves.
func (m *members) prove(now time.Time) {
	m.mu.Lock()
	lost := m.lost
	m.mu.Unlock()
	if lost.IsZero() || !m.bus.through(lost) {
		return
	}
	m.change(func() {
		if m.lost.Equal(lost) {
			m.lost, m.hello = time.Time{}, true
			m.settled = now.Add(helloTime)
		}
	})
}

// tell sends one heartbeat. Without a connection there is nobody to tell.
func (m *members) tell(leaving bool) {
	m.mu.Lock()
	hb := &busv1.Heartbeat{
		Node:        m.self.Node,
		Incarnation: m.self.Incarnation,
		Since:       m.self.Since.UnixNano(),
		ConfigHash:  m.own.hash,
		Draining:    m.self.Draining,
		Leaving:     leaving,
		Hello:       m.hello,
	}
	for _, other := range m.others {
		if other.hash != m.own.hash {
			hb.Namespaces = m.own.policies
		}
	}
	m.hello = false
	m.mu.Unlock()
	body, err := proto.Marshal(hb)
	if err == nil {
		err = m.bus.ctl.Publish(heartbeatSubject, body)
	}
	if err != nil {
		m.bus.log.Debug("heartbeat", "err", err)
	}
}

// leave tells the others that this node goes, so that nobody waits for it.
func (m *members) leave() {
	if !m.bus.ctl.IsConnected() {
		return
	}
	m.tell(true)
	if err := m.bus.ctl.FlushTimeout(leaveTimeout); err != nil {
		m.bus.log.Debug("leave", "err", err)
	}
}

// hear takes one heartbeat.
func (m *members) hear(msg *nats.Msg) {
	var hb busv1.Heartbeat
	if err := proto.Unmarshal(msg.Data, &hb); err != nil {
		m.bus.log.Debug("unreadable heartbeat", "err", err)
		return
	}
	now := time.Now()
	m.mu.Lock()
	answer := m.hearLocked(&hb, now)
	m.mu.Unlock()
	if answer {
		m.change(func() {})
	}
}

// hearLocked reports whether the other should hear of us at once.
func (m *members) hearLocked(hb *busv1.Heartbeat, now time.Time) (answer bool) {
	since := time.Unix(0, hb.GetSince())
	if hb.GetNode() == m.self.Node {
		if hb.GetIncarnation() == m.self.Incarnation {
			return m.echoLocked(now)
		}
		if !hb.GetLeaving() && !since.Before(m.self.Since) {
			m.namesake = now
		}
		return false
	}
	known := m.others[hb.GetNode()]
	if known != nil && known.Incarnation != hb.GetIncarnation() && since.Before(known.Since) && now.Sub(known.heard) < memberLease {
		return false // an earlier life of it, late
	}
	if hb.GetLeaving() {
		delete(m.others, hb.GetNode())
		m.noteContestsLocked()
		return false
	}
	fresh := known == nil || known.Incarnation != hb.GetIncarnation()
	if fresh {
		known = &member{}
		m.others[hb.GetNode()] = known
		m.bus.log.Info("node is there", "other", hb.GetNode(), "incarnation", hb.GetIncarnation())
	}
	known.Member = Member{Node: hb.GetNode(), Incarnation: hb.GetIncarnation(), Since: since, Draining: hb.GetDraining()}
	known.heard = now
	m.compareLocked(known, hb)
	return fresh || hb.GetHello()
}

// echoLocked takes note that this node hears itself. After a pause those who were there
// get time to be heard, and are asked to tell of themselves.
func (m *members) echoLocked(now time.Time) (tell bool) {
	deaf := now.Sub(m.echoed) > deafAfter
	first := m.settled.IsZero() // its hello has just been said
	if deaf {
		m.settled = now.Add(settleTime)
		m.hello = !first
		for _, other := range m.others {
			other.heard = now
		}
	}
	m.echoed = now
	return deaf && !first
}

// compareLocked notes whether a node's configuration is ours.
func (m *members) compareLocked(other *member, hb *busv1.Heartbeat) {
	other.hash = hb.GetConfigHash()
	switch {
	case other.hash == m.own.hash:
		other.differs, other.contests = "", nil
	case len(hb.GetNamespaces()) > 0:
		other.differs, other.contests = m.own.differences(hb.GetNamespaces()), m.own.contests(hb.GetNamespaces())
	}
	m.noteContestsLocked()
}

// live returns the nodes that are there but this one, by name, and forgets the others.
func (m *members) live(now time.Time) []*member {
	m.mu.Lock()
	defer m.mu.Unlock()
	hears := now.Sub(m.echoed) <= deafAfter
	var list []*member
	for name, other := range m.others {
		if hears && now.Sub(other.heard) > memberLease {
			m.lost, m.uncertain = now, true
			m.wake()
			m.bus.log.Warn("node is not heard any more", "other", name, "incarnation", other.Incarnation)
			delete(m.others, name)
			m.noteContestsLocked()
			continue
		}
		shown := *other
		list = append(list, &shown)
	}
	slices.SortFunc(list, func(a, b *member) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// disagreements says why this node must not serve beside the others.
func (m *members) disagreements(now time.Time) []string {
	var reasons []string
	m.mu.Lock()
	if !m.namesake.IsZero() && now.Sub(m.namesake) < memberLease {
		reasons = append(reasons, fmt.Sprintf("another process runs as node %q; names must be unique", m.self.Node))
	}
	m.mu.Unlock()
	for _, other := range m.live(now) {
		if other.differs != "" {
			reasons = append(reasons, fmt.Sprintf("node %q has another configuration: %s", other.Node, other.differs))
		}
	}
	return reasons
}

// Members returns the live nodes, this one among them, sorted by name. A node that has
// gone without a word is among them for up to 3.5 s, and longer while this node itself
// is cut off: then they are those that it knew last. It never blocks.
func (b *Bus) Members() []Member {
	b.members.mu.Lock()
	list := []Member{b.members.self}
	b.members.mu.Unlock()
	for _, other := range b.members.live(time.Now()) {
		list = append(list, other.Member)
	}
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// SetDraining tells the other nodes that this one asks its sockets to move.
func (b *Bus) SetDraining() {
	b.members.change(func() { b.members.self.Draining = true })
}
