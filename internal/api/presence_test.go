package api

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// Rooms whose members nobody may list do not show in GetUser either.
func TestGetUserHidesRoomsWithoutPresence(t *testing.T) {
	t.Parallel()
	ts := start(t, func(c *Config, _ *recorder) {
		c.Connections = &switchboard{sockets: []*roomcastv1.Connection{{Connection: "c", Node: "n2", User: "ann", Rooms: []string{"a", "big:1"}}}}
	})
	resp, err := roomcastv1.NewPresenceServiceClient(ts.conn).GetUser(t.Context(), &roomcastv1.GetUserRequest{User: "ann"})
	if err != nil || len(resp.GetConnections()) != 1 || resp.GetMore() || !resp.GetComplete() {
		t.Fatalf("got %v, %v; want one connection", resp, err)
	}
	if diff := cmp.Diff([]string{"a"}, resp.GetConnections()[0].GetRooms()); diff != "" || resp.GetConnections()[0].GetNode() != "n2" {
		t.Errorf("%v; rooms (-want +got):\n%s", resp, diff)
	}
}

// A user may have more connections than a gRPC client takes in one response.
func TestGetUserIsBounded(t *testing.T) {
	t.Parallel()
	var all []*roomcastv1.Connection
	for i := range maxUserConnections + 1 {
		all = append(all, &roomcastv1.Connection{Connection: fmt.Sprintf("c%05d", i), User: "ann", Rooms: []string{"a"}})
	}
	ts := start(t, func(c *Config, _ *recorder) { c.Connections = &switchboard{sockets: all} })
	resp, err := roomcastv1.NewPresenceServiceClient(ts.conn).GetUser(t.Context(), &roomcastv1.GetUserRequest{User: "ann"})
	if err != nil || len(resp.GetConnections()) != maxUserConnections || !resp.GetMore() {
		t.Errorf("%d connections, more=%t, %v", len(resp.GetConnections()), resp.GetMore(), err)
	}
}
