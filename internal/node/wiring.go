package node

import (
	"context"

	"github.com/roomcast/roomcast/internal/api"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/bus"
	"github.com/roomcast/roomcast/internal/embednats"
	"github.com/roomcast/roomcast/internal/gateway"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/presence"
)

// The parts declare what they use; these fit the bus to it.

// source is the bus as the hub sees it.
type source struct{ bus *bus.Bus }

func (s source) Listen(r *hub.Room) (stop func()) { return s.bus.Listen(r.Name, r) }

// publisher is the bus as the api sees it.
type publisher struct{ *bus.Bus }

func (p publisher) NewSequence() api.Sequence { return p.Bus.NewSequence() }

// cluster is the bus as presence sees it.
type cluster struct{ *bus.Bus }

func (c cluster) Ask(ctx context.Context, kind string, question []byte, take func(node string, part []byte)) presence.Attendance {
	return presence.Attendance(c.Bus.Ask(ctx, kind, question, take))
}

func (c cluster) Nodes() []presence.Node {
	members := c.Members()
	nodes := make([]presence.Node, 0, len(members))
	for _, m := range members {
		nodes = append(nodes, presence.Node{Name: m.Node, Incarnation: m.Incarnation, Since: m.Since, Draining: m.Draining})
	}
	return nodes
}

func (n *Node) newPresence(b *bus.Bus, rooms *hub.Hub) *presence.Presence {
	return presence.New(presence.Config{
		Node: n.cfg.Node, Version: n.cfg.Version, Policies: n.policies,
		Asker: cluster{b}, Teller: b, Rooms: rooms, NotReady: n.ready.reasons, Logger: n.log,
	})
}

func (n *Node) busConfig(embedded *embednats.Server) bus.Config {
	c := bus.Config{
		Node: n.cfg.Node,
		Server: bus.Server{
			URL: n.cfg.NATS.URL, Creds: n.cfg.NATS.Creds, Nkey: n.cfg.NATS.Nkey,
			User: n.cfg.NATS.User, Password: n.cfg.NATS.Password,
			CA: n.cfg.NATS.CA, Cert: n.cfg.NATS.Cert, Key: n.cfg.NATS.Key,
		},
		Policies:    n.policies,
		Replicas:    n.cfg.NATS.Replicas,
		AllowShrink: n.cfg.NATS.AllowShrink,
		Metrics:     n.metrics,
		Logger:      n.log,
	}
	if embedded != nil {
		c.Embedded = embedded.ConnOption()
	}
	return c
}

func (n *Node) gatewayConfig(b *bus.Bus, rooms *hub.Hub, p *presence.Presence) gateway.Config {
	public, _, _ := shares()
	c := gateway.Config{
		Node:           n.cfg.Node,
		Version:        n.cfg.Version,
		Hub:            rooms,
		Presence:       p,
		NewSequence:    func() gateway.Sequence { return b.NewSequence() },
		Verifier:       n.verifier,
		Policies:       n.policies,
		AllowedOrigins: n.cfg.AllowedOrigins,
		TrustedProxies: n.cfg.TrustedProxies,
		TokenInQuery:   n.cfg.TokenInQuery,
		PingInterval:   n.cfg.PingInterval,
		MaxConnections: public,
		Ready:          n.ready.ready,
		Metrics:        n.metrics,
		Logger:         n.log,
	}
	if n.cfg.Dev {
		c.Anonymous = auth.Guest()
	}
	return c
}

// anonymousRPC is who calls without a token: in development everybody, else those
// whose certificate the listener has verified.
func (n *Node) anonymousRPC() *auth.Caller {
	if n.cfg.Dev || n.cfg.GRPCClientCA != "" {
		return auth.Everything()
	}
	return nil
}

// maxStore bounds the embedded log: what the namespaces may hold, and head room for
// its indexes.
func (n *Node) maxStore() int64 {
	total := int64(64 << 20)
	for _, policy := range n.policies.All() {
		if policy.Stored() {
			total += policy.History.MaxBytes
		}
	}
	return total
}
