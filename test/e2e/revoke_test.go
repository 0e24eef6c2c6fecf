package e2e

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// TestRevokeTokensOfAPausedNode pauses a node (SIGSTOP), revokes the tokens of its
// sockets on another one and goes on publishing. The answer names the paused node; when
// it goes on it closes the sockets. How many of the messages that were published after
// the call they got before that is logged: the node takes in both at once.
func TestRevokeTokensOfAPausedNode(t *testing.T) {
	t.Parallel()
	const sockets, messages = 50, 200
	_, url := startNATS(t)
	first := serve(t, "--dev", "--nats-url", url, "--node", "first")
	paused := serve(t, "--dev", "--nats-url", url, "--node", "paused")
	bearer := must(t, "token", "mint", "--user", "ann", "--rooms", "news")
	header := http.Header{"Authorization": {"Bearer " + bearer}}
	var reading sync.WaitGroup
	var late, closed atomic.Int64
	for range sockets {
		ws, resp, err := websocket.DefaultDialer.DialContext(bounded(t), "ws://"+paused.HTTP+"/v1/ws?room=news", header)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		t.Cleanup(func() { _ = ws.Close() })
		for _, want := range []string{"welcome", "subscribed"} {
			if _, frame, err := ws.ReadMessage(); err != nil || !strings.Contains(string(frame), want) {
				t.Fatalf("got %s, %v, want %s", frame, err, want)
			}
		}
		reading.Go(func() {
			for {
				_ = ws.SetReadDeadline(time.Now().Add(patience)) // never fails
				_, frame, err := ws.ReadMessage()
				end, ok := errors.AsType[*websocket.CloseError](err)
				switch {
				case ok && end.Code == 4401 && end.Text == "TOKEN_REVOKED":
					closed.Add(1)
					return
				case err != nil:
					t.Errorf("a socket ended with %v", err)
					return
				case strings.Contains(string(frame), "after"):
					late.Add(1)
				}
			}
		})
	}
	conn, err := grpc.NewClient(first.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	stopped := time.Now()
	paused.signal(syscall.SIGSTOP)
	resp, err := roomcastv1.NewConnectionServiceClient(conn).RevokeTokens(bounded(t), &roomcastv1.RevokeTokensRequest{
		Target: &roomcastv1.RevokeTokensRequest_User{User: "ann"},
	})
	named := !resp.GetComplete() && strings.Join(resp.GetMissingNodes(), " ") == "paused"
	if err != nil || !named && time.Since(stopped) < heldFor { // later it may be taken for lost
		t.Errorf("revoke: %v, %v; want the paused node to be missing", resp, err)
	}
	for i := range messages {
		_, err := roomcastv1.NewPublishServiceClient(conn).Publish(bounded(t), &roomcastv1.PublishRequest{
			Room: "news", Payload: &roomcastv1.PublishRequest_Text{Text: "after " + strconv.Itoa(i)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	paused.signal(syscall.SIGCONT)
	reading.Wait()
	if closed.Load() != sockets {
		t.Errorf("%d sockets were closed, want %d", closed.Load(), sockets)
	}
	t.Logf("of %d messages to each of %d sockets %d were delivered before the node had taken in the revocation",
		messages, sockets, late.Load())
}
