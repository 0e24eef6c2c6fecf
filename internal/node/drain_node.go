package node

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/bus"
)

// kindDrain is the question that asks one node to drain.
const kindDrain = "node.drain"

// askTime is how long that node may take to say that it has begun.
const askTime = time.Second

// drainer asks nodes to drain.
type drainer struct{ bus *bus.Bus }

// DrainNode asks a node, this one or another, to drain.
func (d drainer) DrainNode(ctx context.Context, node string, over time.Duration) (sockets int, err error) {
	question, err := proto.Marshal(&busv1.DrainQuestion{Over: int64(over)})
	if err != nil {
		return 0, fmt.Errorf("encode: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var answer busv1.DrainAnswer
	var unreadable error
	err = d.bus.AskNode(ctx, node, kindDrain, question, func(part []byte) { unreadable = proto.Unmarshal(part, &answer) })
	if err == nil && unreadable != nil {
		err = fmt.Errorf("node %q: %w", node, unreadable)
	}
	return int(answer.GetConnections()), err
}

// answerDrain drains this node when it is asked to.
func (n *Node) answerDrain(_ context.Context, question []byte, part func([]byte)) {
	var q busv1.DrainQuestion
	if err := proto.Unmarshal(question, &q); err != nil {
		n.log.Warn("unreadable question", "kind", kindDrain, "err", err)
		return
	}
	sockets := n.Drain(time.Duration(q.GetOver()))
	body, err := proto.Marshal(&busv1.DrainAnswer{Connections: uint32(sockets)}) //nolint:gosec // a count
	if err != nil {
		n.log.Error("encode an answer", "kind", kindDrain, "err", err)
		return
	}
	part(body)
}
