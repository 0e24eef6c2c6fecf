package gateway

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// checker is the model: it reads what one client got, frame by frame, and says what is
// wrong with it. Everything has happened by then.
type checker struct {
	w     *model
	c     *modelClient
	subs  map[room.Name]*modelSub
	asked []*asked          // that have no answer yet, without publications
	pubs  map[uint32]*asked // publications that have none
	read  int               // frames
}

// modelSub is one subscription of a room, from its subscribed on.
type modelSub struct {
	room     *modelRoom
	after    string // as it was asked for
	at       place  // what comes next
	slack    int    // entries below it may be missing: where it begins is not known exactly
	fresh    bool   // nothing has come yet
	needsGap bool   // its position proves nothing
	open     bool   // a gap was the last: messages that are purged may be missing
	overflow int    // gaps of an ephemeral room since the last message
	joined   [2]place
	live     bool // a message has come that is newer than the subscription
}

func newChecker(c *modelClient) *checker {
	k := &checker{w: c.w, c: c, subs: make(map[room.Name]*modelSub), pubs: make(map[uint32]*asked)}
	for _, a := range c.asked {
		if a.frame.GetPublish() != nil {
			k.pubs[a.frame.GetId()] = a
		} else {
			k.asked = append(k.asked, a)
		}
	}
	return k
}

func (k *checker) fail(fault string) {
	k.w.t.Helper()
	var last []string
	for _, f := range k.c.ear.in.frames[max(0, k.read-12):k.read] {
		text := fmt.Sprintf("opcode %d %q", f.op, f.payload)
		if said, err := decodeServer(f); err == nil && !f.op.IsControl() {
			text = fmt.Sprint(said)
		}
		last = append(last, f.at.Format(time.TimeOnly+".000")+" "+text[:min(len(text), 200)])
	}
	k.w.t.Errorf("%s as %s, %s\n  the last frames:\n    %s", k.c.user, k.c.format.Subprotocol(), fault,
		strings.Join(last, "\n    "))
}

// run fails the test with what is wrong.
func (k *checker) run() {
	k.w.t.Helper()
	fault := k.fault()
	if fault == "" {
		fault = k.end()
	}
	if fault != "" {
		k.fail(fault)
	}
}

// fault says what is wrong with the frames, at the marks too.
func (k *checker) fault() string {
	frames := k.c.ear.in.frames
	marks := k.c.marks
	for i := 0; ; i++ {
		for len(marks) > 0 && marks[0].frames == i {
			if fault := k.reached(marks[0]); fault != "" {
				return fmt.Sprintf("at %s: %s", marks[0].at.Format(time.TimeOnly+".000"), fault)
			}
			marks = marks[1:]
		}
		if i == len(frames) {
			return ""
		}
		if fault := k.frame(i, frames[i]); fault != "" {
			return fmt.Sprintf("frame %d: %s", i, fault)
		}
	}
}

func (k *checker) frame(i int, f modelFrame) string {
	k.read = i + 1
	k.w.stats.frames.Add(1)
	if f.op.IsControl() {
		return k.control(f)
	}
	if f.op != k.c.format.Opcode() {
		return fmt.Sprintf("opcode %d", f.op)
	}
	said := k.w.decoded[string(f.payload)] // most frames are many sockets'
	if said == nil {
		var err error
		if said, err = decodeServer(f); err != nil {
			return fmt.Sprintf("%v: %q", err, f.payload)
		}
		k.w.decoded[string(f.payload)] = said
	}
	if (i == 0) != (said.GetWelcome() != nil) {
		return "welcome is the first, and only that"
	}
	switch {
	case said.GetWelcome() != nil:
		if said.GetWelcome().GetUser() != k.c.user {
			return "another user"
		}
		return ""
	case said.GetMessage() != nil:
		return k.message(f, said.GetMessage())
	case said.GetGap() != nil:
		return k.gap(f, said.GetGap())
	}
	if _, ok := said.GetFrame().(*roomcastv1.ServerFrame_Reconnect_); ok {
		return ""
	}
	return k.answer(f, said)
}

func (k *checker) control(f modelFrame) string {
	switch f.op {
	case wire.OpPong:
		if len(k.asked) == 0 || k.asked[0].frame != nil || k.asked[0].ping != string(f.payload) {
			return "it is not what was asked for first"
		}
		k.asked = k.asked[1:]
	case wire.OpClose:
		if code := binary.BigEndian.Uint16(f.payload); code != k.c.s.out.how().code {
			return fmt.Sprintf("close code %d, the session says %d", code, k.c.s.out.how().code)
		}
	case wire.OpPing, wire.OpText, wire.OpBinary, wire.OpContinuation:
	}
	return ""
}

// answer checks that answers come in the order of the requests.
func (k *checker) answer(f modelFrame, said *roomcastv1.ServerFrame) string {
	if a := k.pubs[said.GetId()]; a != nil && said.GetId() != 0 {
		delete(k.pubs, said.GetId())
		return k.published(a, said)
	}
	if len(k.asked) == 0 {
		return "nobody has asked"
	}
	a := k.asked[0]
	k.asked = k.asked[1:]
	if a.ping != "" || a.frame.GetId() != said.GetId() {
		return fmt.Sprintf("asked for first was %v %s", a.frame, a.ping)
	}
	reason := said.GetError().GetReason()
	switch r := a.frame.GetRequest().(type) {
	case nil:
		if reason != string(room.ReasonInvalidFrame) {
			return "nonsense is no request"
		}
	case *roomcastv1.ClientFrame_Ping_:
		if said.GetPong() == nil {
			return "no pong"
		}
	case *roomcastv1.ClientFrame_Unsubscribe_:
		name := room.Name(r.Unsubscribe.GetRoom())
		if k.subs[name] == nil {
			if reason != string(room.ReasonNotSubscribed) {
				return "it is not subscribed"
			}
			return ""
		}
		delete(k.subs, name)
		if said.GetUnsubscribed().GetRoom() != string(name) {
			return "no unsubscribed"
		}
	case *roomcastv1.ClientFrame_Subscribe_:
		return k.subscribed(f, a, r.Subscribe, said)
	}
	return ""
}

func (k *checker) published(a *asked, said *roomcastv1.ServerFrame) string {
	p := a.frame.GetPublish()
	m := k.w.log.rooms[room.Name(p.GetRoom())]
	if !m.policy.ClientPublish {
		if said.GetError().GetReason() != string(room.ReasonPublishDisabled) {
			return "clients may not publish there"
		}
		return ""
	}
	at, ok := m.ids[said.GetPublished().GetId()]
	if !ok || string(m.epochs[at.epoch].entries[at.index].msg.Payload.Bytes) != p.GetText() ||
		said.GetPublished().GetStored() != m.policy.Stored() {
		return "it is not what the log says of the publication"
	}
	return ""
}

// heads returns the events that a room may have heard last when something was done:
// between a request, and a frame that came later.
func (k *checker) heads(m *modelRoom, done, begun int64) []modelEvent {
	from := done
	for from > 0 && k.w.log.events[from-1].room != m {
		from--
	}
	var list []modelEvent
	for _, e := range k.w.log.events[max(0, from-1):begun] {
		if e.room == m {
			list = append(list, e)
		}
	}
	return list
}

func (k *checker) subscribed(f modelFrame, a *asked, r *roomcastv1.ClientFrame_Subscribe, said *roomcastv1.ServerFrame) string {
	m := k.w.log.rooms[room.Name(r.GetRoom())]
	after, err := room.ParsePosition(r.GetAfter(), "after")
	if r.GetAfter() != "" && err != nil && m.policy.Stored() {
		if said.GetError().GetReason() != string(room.ReasonInvalidPosition) {
			return "the position cannot be read"
		}
		return ""
	}
	got := said.GetSubscribed()
	if said.GetError().GetReason() == string(room.ReasonBusUnavailable) && len(k.c.marks) == 0 {
		return "" // the socket ended meanwhile
	}
	if got.GetRoom() != r.GetRoom() {
		return fmt.Sprintf("the answer is not %s's subscribed", r.GetRoom())
	}
	heads := k.heads(m, a.done, f.begun)
	if len(heads) == 0 {
		return "the room has no head"
	}
	oldest, newest := heads[0].to, heads[len(heads)-1].to
	sub := &modelSub{room: m, after: r.GetAfter(), fresh: true, joined: [2]place{oldest, newest}}
	k.subs[m.name] = sub
	switch {
	case !m.policy.Stored():
		sub.at, sub.slack = oldest, newest.index
		sub.needsGap = r.GetAfter() != ""
		if got.GetPosition() != "" {
			return "an ephemeral room has no positions"
		}
	case r.GetAfter() != "":
		sub.begin(after)
		if got.GetPosition() != r.GetAfter() {
			return "it stands elsewhere"
		}
	default:
		known := false
		for _, e := range heads { // more than one has it if messages were lost
			if e.head.String() == got.GetPosition() && (!known || e.to.epoch == sub.at.epoch) {
				if sub.slack = e.to.index; !known {
					sub.at, known = e.to, true
				}
			}
		}
		if known {
			return ""
		}
		return fmt.Sprintf("it stands elsewhere than its room, which was at %v to %v", oldest, newest)
	}
	return ""
}

// begin finds the place of a position.
func (s *modelSub) begin(after room.Position) {
	s.needsGap = true
	for i, e := range s.room.epochs {
		if e.name != after.Epoch {
			continue
		}
		s.at = place{i, e.after(after)}
		known := s.at.index > 0 && e.entries[s.at.index-1].pos == after
		s.needsGap = after.Seq > e.seq || !after.IsWatermark() && !known
	}
}

// missing says which of the entries up to one should have come.
func (k *checker) missing(s *modelSub, to int, at time.Time, purged bool) string {
	entries := s.room.epochs[s.at.epoch].entries
	for i := max(s.at.index, s.slack); i < to; i++ {
		switch e := entries[i]; {
		case e.msg == nil:
		case e.msg.ExcludeUser == k.c.user, e.msg.Expired(at):
			k.w.stats.withheld.Add(1)
		case purged && !e.purged.IsZero() && !e.purged.After(at):
		default:
			return fmt.Sprintf("message %s, number %d, is missing", e.msg.ID, i)
		}
	}
	return ""
}

func (k *checker) message(f modelFrame, said *roomcastv1.Message) string {
	s := k.subs[room.Name(said.GetRoom())]
	if s == nil {
		return "it is not subscribed"
	}
	k.w.stats.messages.Add(1)
	at, ok := s.room.ids[said.GetId()]
	if !ok {
		return "no such message"
	}
	msg := s.room.epochs[at.epoch].entries[at.index].msg
	switch {
	case string(msg.Payload.Bytes) != said.GetText():
		return "not its text"
	case msg.ExcludeUser == k.c.user:
		return "it excludes this user"
	case k.c.sock != nil && msg.Expired(f.at.Add(-500*time.Millisecond)): // a flusher that was held up in between
		return "it has expired"
	case s.needsGap:
		return "its position needs a gap first"
	case at.epoch != s.at.epoch:
		return "another log without a gap"
	case at.index < s.at.index:
		return fmt.Sprintf("it has come before, or should have: number %d, at %d", at.index, s.at.index)
	}
	if fault := k.missed(s, at.index, f); fault != "" {
		return fault
	}
	if fault := k.replayed(s, at, said.GetReplayed()); fault != "" {
		return fault
	}
	s.at.index, s.fresh, s.open, s.overflow = at.index+1, false, false, 0
	return ""
}

// missed is missing with what an ephemeral room may lose: what its ring does not hold.
func (k *checker) missed(s *modelSub, to int, f modelFrame) string {
	if s.overflow == 0 {
		return k.missing(s, to, f.at, s.open)
	}
	if lost := to - s.at.index; lost < s.overflow {
		return fmt.Sprintf("%d gaps, but %d messages are missing", s.overflow, lost)
	}
	told := k.heads(s.room, f.begun, f.begun)
	if !k.w.roomy || len(told) == 0 {
		return ""
	}
	s.slack = max(s.slack, told[0].to.index-int(k.w.ring))
	return k.missing(s, to, f.at, false)
}

// replayed checks that messages are said to be older than the subscription if they are.
func (k *checker) replayed(s *modelSub, at place, replayed bool) string {
	oldest, newest := s.joined[0], s.joined[1]
	switch {
	case replayed && s.after == "", replayed && s.live, replayed && !at.before(newest):
		return "it is not older than the subscription"
	case !replayed && s.after != "" && s.room.policy.Stored() && oldest.epoch == newest.epoch && at.before(oldest):
		return "it is older than the subscription"
	}
	s.live = s.live || !replayed
	if replayed {
		k.w.stats.replayed.Add(1)
	}
	return ""
}

// reached checks that a client has everything at a moment when nothing is under way.
func (k *checker) reached(m mark) string {
	for _, a := range k.asked {
		if a.sent {
			return fmt.Sprintf("no answer to %v %s", a.frame, a.ping)
		}
	}
	for _, a := range k.pubs {
		if a.sent {
			return fmt.Sprintf("no answer to %v", a.frame)
		}
	}
	if m.rest != 0 {
		return fmt.Sprintf("%d bytes of a frame, and no more", m.rest)
	}
	for name, s := range k.subs {
		end := m.ends[name]
		switch {
		case s.needsGap:
			return fmt.Sprintf("%s: no gap though the position %q needs one", name, s.after)
		case s.at.epoch != end.epoch:
			return fmt.Sprintf("%s: it is still in the log before", name)
		case s.overflow > 0: // the newest is always there
			end.index--
			s.slack = max(s.slack, end.index)
			end.index++
		}
		if fault := k.missing(s, end.index, m.at, s.open); fault != "" {
			return fmt.Sprintf("%s: at rest at %d of %d: %s", name, s.at.index, end.index, fault)
		}
	}
	return ""
}

// end checks how the socket ended.
func (k *checker) end() string {
	c, how := k.c, k.c.s.out.how()
	if c.ear.in.fault != "" {
		return c.ear.in.fault
	}
	drowned, broken := false, false
	if c.sock != nil {
		if c.sock.misuse != "" {
			return c.sock.misuse
		}
		drowned, broken = c.sock.drowned, c.sock.broken
	}
	var allowed bool
	switch how.code {
	case statusAbnormal:
		allowed = c.hung || broken
	case codeRestart:
		allowed = true
	case codeTooSlow:
		allowed = drowned || c.strict
	case codeTooFast:
		allowed = drowned && how.word == closeUnread.word
	case codeNoPong:
		allowed = c.mute
	default:
		allowed = how.byPeer && c.closes
	}
	if !allowed {
		return fmt.Sprintf("it ended with %d %s", how.code, how.word)
	}
	k.w.stats.closed.Add(1)
	return ""
}
