package presence

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/roomcast/roomcast/internal/room"
)

// deadline is how long an answer waits for the nodes.
const deadline = 500 * time.Millisecond

// Node is one live node.
type Node struct {
	Name        string
	Incarnation string    // tells one life of the node from another
	Since       time.Time // when this life began
	Draining    bool
}

// Attendance says who answered a question.
type Attendance struct {
	Complete bool     // everybody did, and this node knows who everybody is
	Missing  []string // who did not, sorted
}

// lacks notes that a node's answer cannot be used.
func (a *Attendance) lacks(node string) {
	a.Complete = false
	if at, found := slices.BinarySearch(a.Missing, node); !found {
		a.Missing = slices.Insert(a.Missing, at, node)
	}
}

// Asker asks nodes: the bus.
type Asker interface {
	// Ask asks every live node, this one too, and hands the parts of their answers to
	// take, one call at a time.
	Ask(ctx context.Context, kind string, question []byte, take func(node string, part []byte)) Attendance
	// AskNode asks one node.
	AskNode(ctx context.Context, node, kind string, question []byte, take func(part []byte)) error
	// Answer says how this node answers a kind of question.
	Answer(kind string, answer func(ctx context.Context, question []byte, part func([]byte))) error
	// Nodes are the live nodes, this one too.
	Nodes() []Node
}

// Teller tells nodes of a room, and hears what they tell, at most once: the bus.
type Teller interface {
	Tell(name room.Name, body []byte)
	Hear(ctx context.Context, name room.Name, heard func(body []byte)) (stop func(), err error)
}

// Rooms are this node's rooms: the hub.
type Rooms interface {
	Members(name room.Name) iter.Seq[room.Member]
	Occupied() iter.Seq[room.Name]
	Arrived(ctx context.Context, name room.Name, at room.Position) (iter.Seq[room.Member], error)
	Standing(name room.Name) (head room.Position, members, slow int)
}

// Watched tells of a room's members on this node: the hub.
type Watched interface {
	Watch(name room.Name, tell func(seq uint64, m room.Member, left room.LeaveReason)) (stop func())
	Snapshot(name room.Name) (members []room.Member, seq uint64)
	Told(name room.Name) uint64
}

// Sockets are this node's sockets: the gateway.
type Sockets interface {
	Connections() int
}

// Config is what presence needs. All of it must be set.
type Config struct {
	Node, Version string
	Policies      *room.Policies
	Asker         Asker
	Teller        Teller
	Rooms         interface {
		Rooms
		Watched
	}
	NotReady func() []string // why this node should get no traffic
	Logger   *slog.Logger
}

// Presence asks and answers for this node. Safe for concurrent use.
type Presence struct {
	cfg     Config // static
	log     *slog.Logger
	leases  leases
	watches watches

	ctx    context.Context //nolint:containedctx // the life of the goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New returns a presence that can ask. Nobody is answered before [Presence.Answer].
func New(cfg Config) *Presence {
	p := &Presence{cfg: cfg, log: cfg.Logger.With("part", "presence")}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.leases.init(p)
	p.watches.init(p)
	return p
}

// Close ends all watches and waits for what this package has started.
func (p *Presence) Close() {
	p.leases.close()
	p.watches.close()
	p.cancel()
	p.wg.Wait()
}

// question is a message that is asked.
type message[T any] interface {
	*T
	proto.Message
}

// ask asks all nodes within the deadline.
func ask[T any, M message[T]](ctx context.Context, p *Presence, kind string, question proto.Message, take func(node string, part M)) Attendance {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var unreadable []string
	a := p.cfg.Asker.Ask(ctx, kind, p.encode(question), func(node string, body []byte) {
		part := M(new(T))
		if err := proto.Unmarshal(body, part); err != nil {
			p.log.Warn("unreadable answer", "kind", kind, "other", node, "err", err)
			unreadable = append(unreadable, node)
			return
		}
		take(node, part)
	})
	for _, node := range unreadable {
		a.lacks(node)
	}
	return a
}

// encode encodes what this package has made: it cannot fail but for text that is not
// UTF-8, which no room and no user has.
func (p *Presence) encode(m proto.Message) []byte {
	body, err := proto.Marshal(m)
	if err != nil {
		p.log.Error("encode", "err", err)
	}
	if body == nil {
		return []byte{} // a part that is empty is a part
	}
	return body
}
