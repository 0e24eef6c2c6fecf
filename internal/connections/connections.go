package connections

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/gateway"
	"github.com/roomcast/roomcast/internal/room"
)

// Kinds of questions.
const (
	kindList        = "conn.list"
	kindDisconnect  = "conn.disconnect"
	kindSubscribe   = "conn.subscribe"
	kindUnsubscribe = "conn.unsubscribe"
	kindRevoke      = "conn.revoke"
)

const (
	// listTime is how long a page waits for the nodes.
	listTime = 500 * time.Millisecond

	// commandTime is how long a command does: longer, because a node that is not in a room
	// yet must ask the log where it stands.
	commandTime = 2 * time.Second

	// roomMargin is how long before that a node gives a room up that does not answer.
	roomMargin = 500 * time.Millisecond
)

// Connections asks all nodes, and answers for this one. Safe for concurrent use.
type Connections struct {
	bus     *bus.Bus
	gateway *gateway.Gateway
	log     *slog.Logger
}

// New begins to answer for the gateway, and returns once it knows of every token that
// was revoked; from then on it hears of others. It waits for NATS until ctx ends.
func New(ctx context.Context, b *bus.Bus, g *gateway.Gateway, logger *slog.Logger) (*Connections, error) {
	c := &Connections{bus: b, gateway: g, log: logger.With("part", "connections")}
	if err := b.FollowRevocations(ctx, func(list []room.Revocation) { g.Revoke(list) }); err != nil {
		return nil, err
	}
	if err := b.Answer(kindList, c.answerList); err != nil {
		return nil, err
	}
	for kind, act := range map[string]func(context.Context, *busv1.ConnectionCommand) int{
		kindDisconnect: func(_ context.Context, q *busv1.ConnectionCommand) int {
			target := gateway.Target{User: q.GetUser(), Connection: q.GetConnection(), Room: room.Name(q.GetRoom())}
			return g.Disconnect(target, q.GetWord())
		},
		kindSubscribe: func(ctx context.Context, q *busv1.ConnectionCommand) int {
			return g.Subscribe(ctx, time.Now().Add(commandTime-roomMargin), q.GetUser(), room.Name(q.GetRoom()))
		},
		kindUnsubscribe: func(_ context.Context, q *busv1.ConnectionCommand) int {
			return g.Unsubscribe(q.GetUser(), room.Name(q.GetRoom()))
		},
	} {
		if err := b.Answer(kind, answerCount(c, act)); err != nil {
			return nil, err
		}
	}
	return c, b.Answer(kindRevoke, answerCount(c, c.revokeHere))
}

// Disconnect closes the sockets of a user, a connection or a room, and returns how many.
func (c *Connections) Disconnect(ctx context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance) {
	return c.count(ctx, kindDisconnect, cmd)
}

// Subscribe subscribes a user's sockets to a room, and returns how many were not in it.
func (c *Connections) Subscribe(ctx context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance) {
	return c.count(ctx, kindSubscribe, cmd)
}

// Unsubscribe takes a user's sockets out of a room, and returns how many.
func (c *Connections) Unsubscribe(ctx context.Context, cmd *busv1.ConnectionCommand) (uint32, bus.Attendance) {
	return c.count(ctx, kindUnsubscribe, cmd)
}

// Revoke stores a revocation, has every live node apply it at once, and returns how many
// sockets that closed. Errors are those of [bus.Bus.Revoke]; after one nothing is
// promised, and revoking again is safe.
func (c *Connections) Revoke(ctx context.Context, r room.Revocation) (uint32, bus.Attendance, error) {
	if err := c.bus.Revoke(ctx, r); err != nil {
		return 0, bus.Attendance{}, err
	}
	closed, who := c.count(ctx, kindRevoke, &busv1.Revocation{User: r.User, TokenId: r.TokenID, Before: r.Before})
	return closed, who, nil
}

// revokeHere applies a revocation, which this node may have learned from the stream
// meanwhile.
func (c *Connections) revokeHere(_ context.Context, q *busv1.Revocation) int {
	r := room.Revocation{User: q.GetUser(), TokenID: q.GetTokenId(), Before: q.GetBefore(), Until: time.Now().Add(bus.RevokedLife)}
	return c.gateway.Revoke([]room.Revocation{r})
}

// count asks every node and adds the counts up.
func (c *Connections) count(ctx context.Context, kind string, question proto.Message) (sum uint32, who bus.Attendance) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	body, err := proto.Marshal(question)
	if err != nil {
		c.log.Error("encode a question", "kind", kind, "err", err)
		return 0, bus.Attendance{}
	}
	who = c.bus.Ask(ctx, kind, body, func(node string, part []byte) {
		var count busv1.ConnectionCount
		if err := proto.Unmarshal(part, &count); err != nil {
			c.log.Warn("unreadable count", "kind", kind, "node", node, "err", err)
			return
		}
		sum += count.GetSockets()
	})
	return sum, who
}

// answerCount makes an answer of what counts sockets. A question that this node cannot
// read is about none.
func answerCount[Q any, P interface {
	*Q
	proto.Message
}](c *Connections, act func(context.Context, P) int) func(context.Context, []byte, func([]byte)) {
	return func(ctx context.Context, question []byte, part func([]byte)) {
		q := P(new(Q))
		if err := proto.Unmarshal(question, q); err != nil {
			c.log.Warn("unreadable question", "err", err)
			return
		}
		body, err := proto.Marshal(&busv1.ConnectionCount{Sockets: uint32(act(ctx, q))}) //nolint:gosec // sockets of a node
		if err != nil {
			c.log.Error("encode an answer", "err", err)
			return
		}
		part(body)
	}
}
