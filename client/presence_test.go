package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// presenceServer answers WatchRoom with what it has, then ends.
type presenceServer struct {
	roomcastv1.UnimplementedPresenceServiceServer

	responses []*roomcastv1.WatchRoomResponse // static
}

func (s *presenceServer) WatchRoom(_ *roomcastv1.WatchRoomRequest, stream roomcastv1.PresenceService_WatchRoomServer) error {
	for _, r := range s.responses {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return nil
}

// A snapshot that comes in parts is told once, whole.
func TestSnapshotInParts(t *testing.T) {
	t.Parallel()
	type snapshot = roomcastv1.WatchRoomResponse_Snapshot
	part := func(s *snapshot, connections ...string) *roomcastv1.WatchRoomResponse {
		for _, c := range connections {
			s.Members = append(s.Members, &roomcastv1.Member{Connection: c})
		}
		return &roomcastv1.WatchRoomResponse{Event: &roomcastv1.WatchRoomResponse_Snapshot_{Snapshot: s}}
	}
	s := &presenceServer{responses: []*roomcastv1.WatchRoomResponse{
		part(&snapshot{More: true}, "1", "2"),
		part(&snapshot{More: true}, "3"),
		part(&snapshot{MissingNodes: []string{"n2"}}, "4"),
		{Event: &roomcastv1.WatchRoomResponse_Join{Join: &roomcastv1.Member{Connection: "5"}}},
		part(&snapshot{Complete: true}, "6"),
		part(&snapshot{Complete: true}),
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	roomcastv1.RegisterPresenceServiceServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	defer serving.Wait()
	defer server.Stop()
	p, err := DialPresence(listener.Addr().String(), WithPlaintext())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	var got []string
	err = p.Watch(t.Context(), "a", func(e PresenceEvent) error {
		switch {
		case e.Join != nil:
			got = append(got, "+"+e.Join.Connection)
		case e.Snapshot.Members == nil:
			t.Error("a snapshot without members is null in JSON")
		default:
			text := "["
			for _, m := range e.Snapshot.Members {
				text += m.Connection
			}
			got = append(got, text+"]")
			if lacks := len(e.Snapshot.MissingNodes) > 0; lacks == e.Snapshot.Complete {
				t.Errorf("%s: complete=%t, missing %q", text, e.Snapshot.Complete, e.Snapshot.MissingNodes)
			}
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"[1234]", "+5", "[6]", "[]"}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
