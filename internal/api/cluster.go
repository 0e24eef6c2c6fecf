package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/presence"
	"github.com/roomcast/roomcast/internal/room"
)

// clusterService is roomcast.v1.ClusterService.
type clusterService struct {
	roomcastv1.UnimplementedClusterServiceServer

	policies *room.Policies
	presence *presence.Presence
	log      Log
	nodes    Nodes
}

// Nodes acts on the nodes of the cluster.
type Nodes interface {
	// DrainNode has a node begin to move its sockets elsewhere within a time, 0 being its
	// drain window, and stop. It returns how many sockets that are. Errors: NotFound if
	// there is no such node, Unavailable if it does not answer.
	DrainNode(ctx context.Context, node string, over time.Duration) (sockets int, err error)
}

// maxDrain is the longest time that a drain may be asked to take.
const maxDrain = time.Hour

// DrainNode has a node move its sockets elsewhere and stop. Asked again with a shorter
// time, it hurries.
func (s *clusterService) DrainNode(ctx context.Context, req *roomcastv1.DrainNodeRequest) (*roomcastv1.DrainNodeResponse, error) {
	if req.GetNode() == "" {
		return nil, room.Invalidf(room.ReasonInvalidNode, "node", "is empty; ListNodes names the nodes")
	}
	over := req.GetOver().AsDuration()
	if req.GetOver() != nil && (req.GetOver().CheckValid() != nil || over <= 0 || over > maxDrain) {
		return nil, room.Invalidf(room.ReasonInvalidDuration, "over", "must be more than 0s and at most %s", maxDrain)
	}
	sockets, err := s.nodes.DrainNode(ctx, req.GetNode(), over)
	if err != nil {
		return nil, err
	}
	return &roomcastv1.DrainNodeResponse{Connections: uint32(sockets)}, nil //nolint:gosec // a count
}

// ListNodes lists the live nodes. One that does not answer says so as not_ready.
func (s *clusterService) ListNodes(ctx context.Context, req *roomcastv1.ListNodesRequest) (*roomcastv1.ListNodesResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	fields := pageFields{"ListNodes"}
	after := ""
	if token := req.GetPageToken(); token != "" {
		if after, err = fields.parse(token); err != nil {
			return nil, err
		}
	}
	resp := &roomcastv1.ListNodesResponse{}
	for _, n := range s.presence.Nodes(ctx) {
		switch {
		case n.Name <= after:
			continue
		case len(resp.Nodes) == size:
			resp.NextPageToken = fields.token(resp.Nodes[size-1].GetNode())
			return resp, nil
		}
		resp.Nodes = append(resp.Nodes, &roomcastv1.Node{
			Node: n.Name, Version: n.Version, Started: timestamppb.New(n.Since),
			Connections: uint32(n.Connections), Rooms: uint32(n.Rooms), //nolint:gosec // counts
			Draining: n.Draining, NotReady: n.NotReady,
		})
	}
	return resp, nil
}

// ExplainRoom tells which nodes serve a room, and how far each has come.
func (s *clusterService) ExplainRoom(
	ctx context.Context, req *roomcastv1.ExplainRoomRequest,
) (*roomcastv1.ExplainRoomResponse, error) {
	name, err := room.ParseName(req.GetRoom(), "room")
	if err != nil {
		return nil, err
	}
	if err := mayRoom(ctx, auth.RPCCluster, name); err != nil {
		return nil, err
	}
	resp := &roomcastv1.ExplainRoomResponse{}
	if policy := s.policies.Of(name); policy.Stored() {
		page, err := s.log.ReadBack(ctx, name, room.Position{}, 1)
		if err != nil {
			return nil, err
		}
		resp.Head = page.Last.String()
	}
	e := s.presence.Explain(ctx, name)
	resp.Complete, resp.MissingNodes = e.Complete, e.Missing
	for _, n := range e.Nodes {
		resp.Nodes = append(resp.Nodes, &roomcastv1.ExplainRoomResponse_NodeRoom{
			Node: n.Node, Head: n.Head, Connections: uint32(n.Connections), Slow: uint32(n.Slow), //nolint:gosec // counts
		})
	}
	return resp, nil
}
