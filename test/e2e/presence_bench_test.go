package e2e

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

var presenceSockets = flag.Int("presence-sockets", 1000, "sockets on each of the nodes of BenchmarkPresence")

// BenchmarkPresence is what questions cost on three nodes in processes of their own, with
// the sockets in further ones, each of another user, all in one room and 30 in another:
// the time that a caller waits, and the processor time of the nodes together.
//
//	go test -run '^$' -bench Presence -benchtime 200x ./test/e2e -presence-sockets 10000
func BenchmarkPresence(b *testing.B) {
	_, nats := startNATS(b)
	nodes, _ := crowdedNodes(b, nats, 3, *presenceSockets)
	ask := nodes[0].asker(b)
	ask.wholes(b, "all", 3**presenceSockets)
	ask.wholes(b, "thirty", 30)
	for _, name := range []string{"thirty", "all"} {
		calls := questions(b, ask, name)
		for _, how := range slices.Sorted(maps.Keys(calls)) {
			b.Run(fmt.Sprintf("%s/room=%s", how, name), func(b *testing.B) { measureCalls(b, nodes, calls[how]) })
		}
	}
}

// measureCalls reports one kind of question, asked one after the other.
func measureCalls(b *testing.B, nodes []*server, call func() (complete bool, err error)) {
	b.Helper()
	if _, err := call(); err != nil { // what is done once is not measured
		b.Fatal(err)
	}
	var waits []time.Duration
	incomplete := 0
	was := uses(b, nodes)
	for b.Loop() {
		began := time.Now()
		complete, err := call()
		waits = append(waits, time.Since(began))
		if err != nil {
			b.Fatal(err)
		}
		if !complete {
			incomplete++
		}
	}
	b.StopTimer()
	now := uses(b, nodes)
	slices.Sort(waits)
	micros := func(d time.Duration) float64 { return float64(d) / 1e3 }
	b.ReportMetric(micros(waits[len(waits)/2]), "p50-µs")
	b.ReportMetric(micros(waits[len(waits)*99/100]), "p99-µs")
	b.ReportMetric((now.cpu-was.cpu)/float64(len(waits))*1e6, "node-cpu-µs/op")
	b.ReportMetric(float64(incomplete), "incomplete")
}

// questions are the calls about a room.
func questions(b *testing.B, ask asker, name string) map[string]func() (complete bool, err error) {
	b.Helper()
	ctx := b.Context()
	calls := map[string]func() (bool, error){
		"GetRoom": func() (bool, error) {
			r, err := ask.GetRoom(ctx, &roomcastv1.GetRoomRequest{Room: name})
			return r.GetComplete(), err
		},
		"ListMembers": func() (bool, error) {
			r, err := ask.ListMembers(ctx, &roomcastv1.ListMembersRequest{Room: name, PageSize: 100})
			return r.GetComplete() && len(r.GetMembers()) >= 30, err
		},
	}
	if name == "all" { // a publish there is mostly deliveries
		calls["GetUser"] = func() (bool, error) {
			r, err := ask.GetUser(ctx, &roomcastv1.GetUserRequest{User: "user 7"})
			return r.GetComplete() && len(r.GetConnections()) == 1, err
		}
		return calls
	}
	calls["publish"] = func() (bool, error) {
		_, err := ask.Publish(ctx, &roomcastv1.PublishRequest{Room: name})
		return true, err
	}
	calls["publish with receipt"] = func() (bool, error) {
		r, err := ask.Publish(ctx, &roomcastv1.PublishRequest{Room: name, Receipt: true})
		return r.GetReceipt().GetComplete() && r.GetReceipt().GetConnections() == 30, err
	}
	return calls
}
