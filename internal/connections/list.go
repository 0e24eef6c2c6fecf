package connections

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/room"
)

const (
	maxPart = 48 << 10 // bytes of a part of an answer, and one room more
	maxPage = 2 << 20  // bytes of a page, and one socket more
)

// nodePage is what one node has answered.
type nodePage struct {
	list []*roomcastv1.Connection
	more bool
}

// List returns a page of the sockets of all nodes, sorted by user and connection. A page
// may be short; more says that others follow.
func (c *Connections) List(ctx context.Context, q *busv1.ConnectionQuery) (page []*roomcastv1.Connection, more bool, who bus.Attendance) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	body, err := proto.Marshal(q)
	if err != nil {
		c.log.Error("encode a question", "kind", kindList, "err", err)
		return nil, false, bus.Attendance{}
	}
	nodes := make(map[string]*nodePage)
	who = c.bus.Ask(ctx, kindList, body, func(node string, part []byte) {
		if nodes[node] == nil {
			nodes[node] = &nodePage{}
		}
		if err := nodes[node].take(node, part); err != nil {
			c.log.Warn("unreadable list", "node", node, "err", err)
		}
	})
	page, more = merge(nodes, int(q.GetLimit()))
	return page, more, who
}

// take adds a part of a node's answer.
func (p *nodePage) take(node string, part []byte) error {
	var list busv1.ConnectionList
	if err := proto.Unmarshal(part, &list); err != nil {
		return err
	}
	p.more = list.GetMore()
	for _, s := range list.GetConnections() {
		if n := len(p.list); n > 0 && p.list[n-1].GetConnection() == s.GetConnection() {
			p.list[n-1].Rooms = append(p.list[n-1].Rooms, s.GetRooms()...)
			continue
		}
		p.list = append(p.list, &roomcastv1.Connection{
			Connection: s.GetConnection(), User: s.GetUser(), Node: node, Rooms: s.GetRooms(),
			Connected: timestamppb.New(time.Unix(0, s.GetConnected())), RemoteAddress: s.GetRemote(),
		})
	}
	return nil
}

// merge makes one page of the nodes'. Where a node has more, nothing behind its last can
// be listed yet.
func merge(nodes map[string]*nodePage, limit int) (page []*roomcastv1.Connection, more bool) {
	var bound *roomcastv1.Connection
	for _, p := range nodes {
		page = append(page, p.list...)
		if !p.more || len(p.list) == 0 {
			continue
		}
		if last := p.list[len(p.list)-1]; bound == nil || compare(last, bound) < 0 {
			bound = last
		}
	}
	slices.SortFunc(page, compare)
	end, size := 0, 0
	for end < len(page) && end < limit && size < maxPage && (bound == nil || compare(page[end], bound) <= 0) {
		size += proto.Size(page[end])
		end++
	}
	return page[:end], bound != nil || end < len(page)
}

func compare(a, b *roomcastv1.Connection) int {
	return cmp.Or(cmp.Compare(a.GetUser(), b.GetUser()), cmp.Compare(a.GetConnection(), b.GetConnection()))
}

// answerList answers with a page of this node's sockets, in parts.
func (c *Connections) answerList(ctx context.Context, question []byte, part func([]byte)) {
	var q busv1.ConnectionQuery
	if err := proto.Unmarshal(question, &q); err != nil {
		c.log.Warn("unreadable question", "kind", kindList, "err", err)
		return
	}
	sessions, more := c.gateway.SessionsAfter(q.GetAfterUser(), q.GetAfterConnection(), q.GetUser(), room.Name(q.GetRoom()), int(q.GetLimit()))
	w := listWriter{part: part, log: c.log}
	for _, s := range sessions {
		if ctx.Err() != nil {
			return
		}
		if w.written >= maxPage {
			more = true
			break
		}
		w.begin(&busv1.OpenConnection{Connection: s.Connection, User: s.User, Connected: s.Connected.UnixNano(), Remote: s.Remote})
		for _, name := range s.Rooms {
			w.add(string(name))
		}
	}
	w.list.More = more
	w.flush()
}

// listWriter cuts a list into parts, between the rooms of a socket if need be.
type listWriter struct {
	part    func([]byte)
	log     *slog.Logger
	list    busv1.ConnectionList
	current *busv1.OpenConnection
	bytes   int // of the list
	written int // in all
}

func (w *listWriter) begin(s *busv1.OpenConnection) {
	if w.bytes >= maxPart {
		w.flush()
	}
	w.current = s
	w.list.Connections = append(w.list.Connections, s)
	w.grow(proto.Size(s))
}

func (w *listWriter) add(name string) {
	if w.bytes >= maxPart {
		w.flush()
		w.current = &busv1.OpenConnection{Connection: w.current.GetConnection()}
		w.list.Connections = append(w.list.Connections, w.current)
	}
	w.current.Rooms = append(w.current.Rooms, name)
	w.grow(len(name))
}

const fieldBytes = 4 // about what a field has beside its text

func (w *listWriter) grow(n int) {
	w.bytes += n + fieldBytes
	w.written += n + fieldBytes
}

func (w *listWriter) flush() {
	body, err := proto.Marshal(&w.list)
	if err != nil {
		w.log.Error("encode a list", "err", err)
	}
	w.part(body)
	w.list.Reset()
	w.bytes = 0
}
