package presence

import (
	"cmp"
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// The kinds of questions.
const (
	kindCount   = "presence.count"
	kindMembers = "presence.members"
	kindRooms   = "presence.rooms"
	kindExplain = "presence.explain"
	kindNode    = "presence.node"
	kindReceipt = "presence.receipt"
	kindWatch   = "presence.watch"
)

// Answer lets this node answer the others, and itself. It comes once, before anybody
// can ask this node.
func (p *Presence) Answer(sockets Sockets) error {
	a := answers{Presence: p, sockets: sockets}
	for kind, answer := range map[string]func(ctx context.Context, question []byte, part func(proto.Message)) error{
		kindCount:   answering(a.count),
		kindMembers: answering(a.members),
		kindRooms:   answering(a.rooms),
		kindExplain: answering(a.explain),
		kindNode:    answering(a.node),
		kindReceipt: answering(a.receipt),
		kindWatch:   answering(p.leases.answer),
	} {
		err := p.cfg.Asker.Answer(kind, func(ctx context.Context, question []byte, part func([]byte)) {
			err := answer(ctx, question, func(m proto.Message) { part(p.encode(m)) })
			if err != nil {
				p.log.Warn("question", "kind", kind, "err", err)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// answering reads a question before it is answered.
func answering[T any, M message[T]](
	answer func(ctx context.Context, q M, part func(proto.Message)),
) func(context.Context, []byte, func(proto.Message)) error {
	return func(ctx context.Context, question []byte, part func(proto.Message)) error {
		q := M(new(T))
		if err := proto.Unmarshal(question, q); err != nil {
			return err //nolint:wrapcheck // logged by the only caller
		}
		answer(ctx, q, part)
		return nil
	}
}

// answers is how this node answers.
type answers struct {
	*Presence
	sockets Sockets
}

func (a answers) count(_ context.Context, q *busv1.CountQuestion, part func(proto.Message)) {
	var t tally
	for m := range a.cfg.Rooms.Members(room.Name(q.GetRoom())) {
		t.add(m.User)
	}
	t.parts(func(c *busv1.Count) { part(c) })
}

// compareMembers is the order in which members are listed.
func compareMembers(a, b room.Member) int {
	return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Connection, b.Connection))
}

func (a answers) members(_ context.Context, q *busv1.MembersQuestion, part func(proto.Message)) {
	after := room.Member{User: q.GetAfterUser(), Connection: q.GetAfterConnection()}
	page := firsts[room.Member]{limit: int(q.GetLimit()), compare: compareMembers}
	for m := range a.cfg.Rooms.Members(room.Name(q.GetRoom())) {
		if compareMembers(m, after) > 0 {
			page.add(m)
		}
	}
	out := chunks[*busv1.Member]{send: func(list []*busv1.Member) { part(&busv1.Members{Members: list}) }}
	for _, m := range page.sorted() {
		out.add(memberProto(m), memberBytes(m))
	}
	out.flush()
}

func memberProto(m room.Member) *busv1.Member {
	return &busv1.Member{User: m.User, Connection: m.Connection, Since: m.Since.UnixMilli()}
}

// memberBytes is about what a member takes on the wire.
func memberBytes(m room.Member) int { return len(m.User) + len(m.Connection) + 16 }

func memberOf(node string, m *busv1.Member) room.Member {
	return room.Member{User: m.GetUser(), Connection: m.GetConnection(), Node: node, Since: time.UnixMilli(m.GetSince())}
}

func (a answers) rooms(_ context.Context, q *busv1.RoomsQuestion, part func(proto.Message)) {
	page := firsts[room.Name]{limit: int(q.GetLimit()), compare: func(a, b room.Name) int { return cmp.Compare(a, b) }}
	for name := range a.cfg.Rooms.Occupied() {
		if name > room.Name(q.GetAfter()) && strings.HasPrefix(string(name), q.GetPrefix()) &&
			allowed(q.GetPatterns(), name) && a.Listed(name) {
			page.add(name)
		}
	}
	out := chunks[*busv1.Rooms_Room]{send: func(list []*busv1.Rooms_Room) { part(&busv1.Rooms{Rooms: list}) }}
	for _, name := range page.sorted() {
		var t tally
		for m := range a.cfg.Rooms.Members(name) {
			t.add(m.User)
		}
		t.parts(func(c *busv1.Count) {
			out.add(&busv1.Rooms_Room{Room: string(name), Count: c}, len(name)+8*len(c.GetUsers())+16)
		})
	}
	out.flush()
}

// allowed reports whether one of the patterns covers a room.
func allowed(patterns []string, name room.Name) bool {
	for _, pattern := range patterns {
		prefix, wild := strings.CutSuffix(pattern, "*")
		if prefix == string(name) || wild && strings.HasPrefix(string(name), prefix) {
			return true
		}
	}
	return false
}

func (a answers) explain(_ context.Context, q *busv1.ExplainQuestion, part func(proto.Message)) {
	head, members, slow := a.cfg.Rooms.Standing(room.Name(q.GetRoom()))
	if members > 0 {
		part(&busv1.NodeRoom{Head: head.String(), Connections: uint32(members), Slow: uint32(slow)}) //nolint:gosec // counts
	}
}

func (a answers) node(_ context.Context, _ *busv1.NodeQuestion, part func(proto.Message)) {
	rooms := 0
	for range a.cfg.Rooms.Occupied() {
		rooms++
	}
	part(&busv1.NodeFacts{
		Version: a.cfg.Version, Connections: uint32(a.sockets.Connections()), Rooms: uint32(rooms), //nolint:gosec // counts
		NotReady: a.cfg.NotReady(),
	})
}

// receipt answers once this node has taken the message in. If it does not in time, ctx
// ends and this is no answer.
func (a answers) receipt(ctx context.Context, q *busv1.ReceiptQuestion, part func(proto.Message)) {
	var at room.Position
	if q.GetId() != "" {
		var err error
		if at, err = room.ParsePosition(q.GetId(), "id"); err != nil {
			a.log.Warn("receipt", "err", err)
			<-ctx.Done() // it cannot be answered
			return
		}
	}
	there, err := a.cfg.Rooms.Arrived(ctx, room.Name(q.GetRoom()), at)
	if err != nil {
		return
	}
	var t tally
	for m := range there {
		if q.GetExcludeUser() == "" || m.User != q.GetExcludeUser() {
			t.add(m.User)
		}
	}
	t.parts(func(c *busv1.Count) { part(c) })
}

// Listed reports whether the members of a room may be listed and watched: its
// namespace's presence.
func (p *Presence) Listed(name room.Name) bool {
	policy := p.cfg.Policies.Of(name)
	return policy.Presence
}
