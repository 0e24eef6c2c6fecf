package api

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// stored makes n messages of a room with the body, the sequences 1 to n.
func stored(name room.Name, n int, body string) []*room.Message {
	messages := make([]*room.Message, n)
	for i := range messages {
		position := room.Position{Epoch: "e", Seq: uint64(i + 1), Check: 7}
		messages[i] = &room.Message{
			Room: name, ID: position.String(), Position: position, Time: time.Unix(1, 0),
			Payload: room.Payload{Kind: room.JSON, Bytes: []byte(body)},
		}
	}
	return messages
}

// listAll pages through a room and returns the ids and the number of pages.
func listAll(t *testing.T, ts *testServer, req *roomcastv1.ListMessagesRequest) (ids []string, pages int) {
	t.Helper()
	for {
		resp, err := roomcastv1.NewHistoryServiceClient(ts.conn).ListMessages(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, m := range resp.GetMessages() {
			ids = append(ids, m.GetId())
		}
		if resp.GetNextPageToken() == "" {
			return ids, pages
		}
		req.PageToken = resp.GetNextPageToken()
	}
}

func TestListMessages(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		req   *roomcastv1.ListMessagesRequest
		ids   int
		first string
		pages int
	}{
		"default size":    {&roomcastv1.ListMessagesRequest{Room: "a"}, 250, "e.1.7", 3},
		"own size":        {&roomcastv1.ListMessagesRequest{Room: "a", PageSize: 50}, 250, "e.1.7", 5},
		"too large size":  {&roomcastv1.ListMessagesRequest{Room: "a", PageSize: 5000}, 250, "e.1.7", 1},
		"after":           {&roomcastv1.ListMessagesRequest{Room: "a", After: "e.200.7"}, 50, "e.201.7", 1},
		"after, in pages": {&roomcastv1.ListMessagesRequest{Room: "a", After: "e.100.7"}, 150, "e.101.7", 2},
		"empty room":      {&roomcastv1.ListMessagesRequest{Room: "b"}, 0, "", 1},
		"newest first":    {&roomcastv1.ListMessagesRequest{Room: "a", NewestFirst: true}, 250, "e.250.7", 3},
		"before":          {&roomcastv1.ListMessagesRequest{Room: "a", NewestFirst: true, Before: "e.121.7"}, 120, "e.120.7", 2},
	}
	ts := start(t, func(_ *Config, r *recorder) { r.pages["a"] = stored("a", 250, `{"n":1}`) })
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ids, pages := listAll(t, ts, tt.req)
			if len(ids) != tt.ids || pages != tt.pages {
				t.Fatalf("got %d messages in %d pages, want %d in %d", len(ids), pages, tt.ids, tt.pages)
			}
			for i := range ids {
				if i == 0 && ids[0] != tt.first {
					t.Errorf("first: got %s, want %s", ids[0], tt.first)
				}
				if i > 0 && ids[i] == ids[i-1] {
					t.Errorf("message %s came twice", ids[i])
				}
			}
		})
	}
}

func TestListMessagesRaw(t *testing.T) {
	t.Parallel()
	ts := start(t, func(_ *Config, r *recorder) { r.pages["a"] = stored("a", 1, `{"n":1.10}`) })
	client := roomcastv1.NewHistoryServiceClient(ts.conn)
	for _, raw := range []bool{false, true} {
		resp, err := client.ListMessages(t.Context(), &roomcastv1.ListMessagesRequest{Room: "a", Raw: raw})
		if err != nil {
			t.Fatal(err)
		}
		m := resp.GetMessages()[0]
		if got := string(m.GetRawJson()); raw && got != `{"n":1.10}` {
			t.Errorf("raw: got %q, want the text unchanged", got)
		}
		if got := m.GetJson().GetStructValue().GetFields()["n"].GetNumberValue(); !raw && got != 1.1 {
			t.Errorf("json: got %v, want n = 1.1", m)
		}
	}
}

func TestListMessagesLeavesOutTheExpired(t *testing.T) {
	t.Parallel()
	ts := start(t, func(_ *Config, r *recorder) {
		r.pages["a"] = stored("a", 10, `1`)
		for _, m := range r.pages["a"][:9] {
			m.Expires = time.Now().Add(-time.Second)
		}
	})
	ids, pages := listAll(t, ts, &roomcastv1.ListMessagesRequest{Room: "a", PageSize: 3})
	if fmt.Sprint(ids) != "[e.10.7]" || pages != 4 {
		t.Errorf("got %v in %d pages, want [e.10.7] in 4: empty pages do not end the list", ids, pages)
	}
}

// clientLimit is what a gRPC client takes by default, this test's too.
const clientLimit = 4 << 20

func TestPagesFitGRPCClients(t *testing.T) {
	t.Parallel()
	body := `"` + strings.Repeat("x", room.MaxMaxPayload-2) + `"`
	ts := start(t, func(_ *Config, r *recorder) { r.pages["big:1"] = stored("big:1", 14, body) })
	for _, raw := range []bool{false, true} {
		ids, pages := listAll(t, ts, &roomcastv1.ListMessagesRequest{Room: "big:1", Raw: raw})
		if len(ids) != 14 || pages != 3 {
			t.Errorf("raw %t: got %d messages in %d pages, want 14 in 3", raw, len(ids), pages)
		}
	}
}

// TestLargestMessageFitsGRPCClients: nothing grows more as a Value than an array of
// digits. An eighth of the largest message stands for it.
func TestLargestMessageFitsGRPCClients(t *testing.T) {
	t.Parallel()
	digits := "[" + strings.Repeat("1,", room.MaxMaxPayload/8/2-1) + "1]"
	resp := &roomcastv1.ListMessagesResponse{}
	resp.Messages, _ = cutPage(room.Page{Messages: stored("big:1", 1, digits)}, false, time.Now())
	if got := 8 * proto.Size(resp); got > clientLimit {
		t.Errorf("got %d bytes, want at most %d", got, clientLimit)
	}
}

func TestListMessagesRefuses(t *testing.T) {
	t.Parallel()
	token := messagePage(&roomcastv1.ListMessagesRequest{Room: "a"}).token("e.1.7")
	invalid := func(reason room.Reason, field string) want {
		return want{code: codes.InvalidArgument, reason: reason, field: field}
	}
	lost := want{code: codes.OutOfRange, reason: room.ReasonPositionLost, text: "TRUNCATED"}
	tests := map[string]struct {
		req  *roomcastv1.ListMessagesRequest
		want want
	}{
		"room":           {&roomcastv1.ListMessagesRequest{Room: "*"}, invalid(room.ReasonInvalidRoom, "room")},
		"page size":      {&roomcastv1.ListMessagesRequest{Room: "a", PageSize: -1}, invalid(room.ReasonInvalidPage, "page_size")},
		"after":          {&roomcastv1.ListMessagesRequest{Room: "a", After: "x"}, invalid(room.ReasonInvalidPosition, "after")},
		"token":          {&roomcastv1.ListMessagesRequest{Room: "a", PageToken: "x"}, invalid(room.ReasonInvalidPage, "page_token")},
		"long token":     {&roomcastv1.ListMessagesRequest{Room: "a", PageToken: strings.Repeat("x", 1000)}, invalid(room.ReasonInvalidPage, "page_token")},
		"version":        {&roomcastv1.ListMessagesRequest{Room: "a", PageToken: "AAAAAAAAAAAAAAAA"}, invalid(room.ReasonInvalidPage, "page_token")},
		"other room":     {&roomcastv1.ListMessagesRequest{Room: "b", PageToken: token}, invalid(room.ReasonInvalidPage, "page_token")},
		"other after":    {&roomcastv1.ListMessagesRequest{Room: "a", After: "e.1.7", PageToken: token}, invalid(room.ReasonInvalidPage, "page_token")},
		"other raw":      {&roomcastv1.ListMessagesRequest{Room: "a", Raw: true, PageToken: token}, invalid(room.ReasonInvalidPage, "page_token")},
		"cut token":      {&roomcastv1.ListMessagesRequest{Room: "a", PageToken: token[:len(token)-4]}, invalid(room.ReasonInvalidPage, "page_token")},
		"no position":    {&roomcastv1.ListMessagesRequest{Room: "a", PageToken: badToken()}, invalid(room.ReasonInvalidPage, "page_token")},
		"ephemeral":      {&roomcastv1.ListMessagesRequest{Room: "live:1"}, want{code: codes.FailedPrecondition, reason: room.ReasonNoHistory}},
		"after, back":    {&roomcastv1.ListMessagesRequest{Room: "a", NewestFirst: true, After: "e.1.7"}, invalid(room.ReasonInvalidPage, "after")},
		"before, forth":  {&roomcastv1.ListMessagesRequest{Room: "a", Before: "e.1.7"}, invalid(room.ReasonInvalidPage, "before")},
		"before":         {&roomcastv1.ListMessagesRequest{Room: "a", NewestFirst: true, Before: "x"}, invalid(room.ReasonInvalidPosition, "before")},
		"other order":    {&roomcastv1.ListMessagesRequest{Room: "a", NewestFirst: true, PageToken: token}, invalid(room.ReasonInvalidPage, "page_token")},
		"foreign before": {&roomcastv1.ListMessagesRequest{Room: "a", NewestFirst: true, Before: "e.1.7"}, lost},
		"position lost":  {&roomcastv1.ListMessagesRequest{Room: "a", After: "e.1.7"}, lost},
		"next page lost": {&roomcastv1.ListMessagesRequest{Room: "a", PageToken: token}, lost},
	}
	ts := start(t, func(_ *Config, r *recorder) { r.gap = room.Truncated })
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := roomcastv1.NewHistoryServiceClient(ts.conn).ListMessages(t.Context(), tt.req)
			tt.want.check(t, status.Convert(err))
		})
	}
}

// badToken is well formed and made for room a, but has no position.
func badToken() string {
	b := append([]byte{pageVersion}, messagePage(&roomcastv1.ListMessagesRequest{Room: "a"}).hash()...)
	return base64.RawURLEncoding.EncodeToString(append(b, "nonsense"...))
}

func FuzzPageToken(f *testing.F) {
	req := &roomcastv1.ListMessagesRequest{Room: "a", After: "e.1.7"}
	f.Add(messagePage(req).token("e.9.7"))
	f.Add(badToken())
	f.Fuzz(func(t *testing.T, token string) {
		req := &roomcastv1.ListMessagesRequest{Room: "a", After: "e.1.7", PageToken: token}
		last, err := parseMessagePage(req)
		if err == nil && token != "" && messagePage(req).token(last.String()) != token {
			t.Errorf("token %q reads as %v, which is written %q", token, last, messagePage(req).token(last.String()))
		}
	})
}
