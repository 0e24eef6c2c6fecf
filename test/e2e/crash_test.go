package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/nodetest"
)

// TestKilledNode kills a node (SIGKILL) while `pub` publishes to it and `sub` listens,
// and starts it again on the same directory and addresses. The log then has every
// line once and in order, those acknowledged before with the ids that pub printed,
// and sub prints them all once.
func TestKilledNode(t *testing.T) {
	t.Parallel()
	const lines, before = 3000, 500
	file := jsonLines(lines)
	args := []string{"--dev", "--data-dir", t.TempDir(), "--config", write(t, "config.yaml", keepAll)}
	s := serveHere(t, args...)
	sub := s.subscribe(t, "--count", strconv.Itoa(lines), "events")
	begin, rest := split(file, lines-before) // however fast it is, not everything is published before
	in, goOn := gated(begin, rest)
	pub := startCommand(t, in, built.roomcast, "pub", "--grpc-addr", s.GRPC, "events", "-")
	t.Cleanup(goOn)
	nodetest.Eventually(t, patience, "some are acknowledged", func() bool { return strings.Count(pub.output(), "\n") >= before })
	s.kill()
	goOn()
	s = s.again(t, args...)
	if code := pub.wait(patience); code != 0 {
		t.Fatalf("pub: exit code %d", code)
	}
	checkOutput(t, sub, file)
	var ids, bodies []string
	for _, m := range listMessages(t, s, "events") {
		ids, bodies = append(ids, m.GetId()), append(bodies, string(m.GetRawJson()))
	}
	if want := strings.Split(strings.TrimSpace(string(file)), "\n"); !slices.Equal(bodies, want) {
		t.Errorf("the log has %d messages, which are not the %d lines in order", len(bodies), len(want))
	}
	if want := strings.Fields(pub.output()); !slices.Equal(ids, want) {
		t.Errorf("the log's %d ids are not the %d that pub printed", len(ids), len(want))
	}
}

// listMessages reads a room's history page by page.
func listMessages(t testing.TB, s *server, name string) []*roomcastv1.Message {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	history := roomcastv1.NewHistoryServiceClient(conn)
	var messages []*roomcastv1.Message
	req := &roomcastv1.ListMessagesRequest{Room: name, PageSize: 1000, Raw: true}
	for {
		page, err := history.ListMessages(bounded(t), req)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, page.GetMessages()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return messages
		}
	}
}
