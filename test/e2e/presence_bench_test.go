package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
)

var presenceSockets = flag.Int("presence-sockets", 3000, "sockets of BenchmarkPresence, in all; each needs a descriptor here")

// BenchmarkPresence is what questions cost on three nodes in processes of their own with
// -presence-sockets sockets in all, each of another user, all in one room and 30 in
// another: the time that a caller waits.
//
//	go test -run '^$' -bench Presence ./test/e2e -presence-sockets 15000
func BenchmarkPresence(b *testing.B) {
	_, nats := startNATS(b)
	var nodes []*server
	for i := range 3 {
		nodes = append(nodes, serveOn(b, fmt.Sprint("n", i+1), nats))
	}
	crowd(b, nodes)
	ask := nodes[0].asker(b)
	ask.wholes(b, "all", *presenceSockets)
	ask.wholes(b, "thirty", 30)
	for _, name := range []string{"thirty", "all"} {
		for how, call := range map[string]func() (bool, error){
			"GetRoom": func() (bool, error) {
				r, err := ask.GetRoom(b.Context(), &roomcastv1.GetRoomRequest{Room: name})
				return r.GetComplete(), err
			},
			"ListMembers": func() (bool, error) {
				r, err := ask.ListMembers(b.Context(), &roomcastv1.ListMembersRequest{Room: name})
				return r.GetComplete(), err
			},
			"receipt": func() (bool, error) {
				r, err := ask.Publish(b.Context(), &roomcastv1.PublishRequest{Room: name, Receipt: true})
				return r.GetReceipt().GetComplete(), err
			},
			"publish": func() (bool, error) {
				_, err := ask.Publish(b.Context(), &roomcastv1.PublishRequest{Room: name})
				return true, err
			},
			"GetUser": func() (bool, error) {
				r, err := ask.GetUser(b.Context(), &roomcastv1.GetUserRequest{User: "user 7"})
				return r.GetComplete() && len(r.GetConnections()) == 1, err
			},
		} {
			b.Run(fmt.Sprintf("%s/room=%s", how, name), func(b *testing.B) {
				incomplete := 0
				for b.Loop() {
					complete, err := call()
					if err != nil {
						b.Fatal(err)
					}
					if !complete {
						incomplete++
					}
				}
				b.ReportMetric(float64(incomplete), "incomplete")
			})
		}
	}
}

// crowd opens the sockets, each of a user of its own, and reads what they get.
func crowd(b *testing.B, nodes []*server) {
	b.Helper()
	var dialled, reading sync.WaitGroup
	next := make(chan int)
	failed := make(chan error, 1)
	for range 16 {
		dialled.Go(func() {
			for i := range next {
				conn, err := crowdSocket(nodes[i%len(nodes)], i)
				if err != nil {
					select {
					case failed <- err:
					default:
					}
					continue
				}
				reading.Go(func() {
					for {
						if _, _, err := conn.NextReader(); err != nil {
							return
						}
					}
				})
				b.Cleanup(func() { _ = conn.Close() })
			}
		})
	}
	b.Cleanup(reading.Wait) // after all are closed
	for i := range *presenceSockets {
		next <- i
	}
	close(next)
	dialled.Wait()
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
}

func crowdSocket(s *server, i int) (*websocket.Conn, error) {
	token, err := auth.Mint([]byte("roomcast-development-key-public-and-insecure"), auth.Claims{
		User: fmt.Sprint("user ", i), Rooms: map[string][]string{"*": {auth.RightSubscribe}}, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		return nil, err
	}
	url := "ws://" + s.HTTP + "/v1/ws?room=all"
	if i < 30 {
		url += "&room=thirty"
	}
	dialer := websocket.Dialer{ReadBufferSize: 256, WriteBufferSize: 256}
	conn, resp, err := dialer.Dial(url, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close() // it is empty
	return conn, nil
}
