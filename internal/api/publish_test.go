package api

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

func text(name, body string) *roomcastv1.PublishRequest {
	return &roomcastv1.PublishRequest{Room: name, Payload: &roomcastv1.PublishRequest_Text{Text: body}}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	resp, err := roomcastv1.NewPublishServiceClient(ts.conn).Publish(t.Context(), &roomcastv1.PublishRequest{
		Room:        "orders:42",
		Payload:     &roomcastv1.PublishRequest_RawJson{RawJson: []byte(`{"n":1.10}`)},
		Event:       "paid",
		MessageId:   "m1",
		Ttl:         durationpb.New(time.Minute),
		ExcludeUser: "ann",
	})
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetId() != "e.1.1" || !resp.GetStored() || resp.GetDuplicate() {
		t.Errorf("got %v, want id e.1.1, stored", resp)
	}
	want := []*room.Publication{{
		Room: "orders:42", Payload: room.Payload{Kind: room.JSON, Bytes: []byte(`{"n":1.10}`)},
		Event: "paid", MessageID: "m1", TTL: time.Minute, ExcludeUser: "ann",
	}}
	if diff := cmp.Diff(want, ts.seen()); diff != "" {
		t.Errorf("publication (-want +got):\n%s", diff)
	}
	trace := ts.logs.lines("msg=publish")
	if len(trace) != 1 || !strings.Contains(trace[0], "hop=1 room=orders:42 id=e.1.1") {
		t.Errorf("trace: got %q, want one line of hop 1 with room and id", trace)
	}
}

// refusals are the requests that Publish refuses before the publisher sees them.
func refusals() map[string]struct {
	req  *roomcastv1.PublishRequest
	want want
} {
	with := func(change func(*roomcastv1.PublishRequest)) *roomcastv1.PublishRequest {
		req := text("orders:42", "x")
		change(req)
		return req
	}
	invalid := func(reason room.Reason, field, part string) want {
		return want{code: codes.InvalidArgument, reason: reason, field: field, text: part}
	}
	return map[string]struct {
		req  *roomcastv1.PublishRequest
		want want
	}{
		"empty room":        {text("", "x"), invalid(room.ReasonInvalidRoom, "room", "is empty")},
		"star":              {text("orders:*", "x"), invalid(room.ReasonInvalidRoom, "room", "'*'")},
		"201 bytes":         {text(strings.Repeat("r", 201), "x"), invalid(room.ReasonInvalidRoom, "room", "has 201 bytes; the limit is 200")},
		"control character": {text("a\nb", "x"), invalid(room.ReasonInvalidRoom, "room", "U+000A")},
		"reserved":          {text("_sys", "x"), invalid(room.ReasonInvalidRoom, "room", "'_'")},
		"too large": {
			text("orders:42", strings.Repeat("x", 64<<10+1)),
			invalid(room.ReasonPayloadTooLarge, "payload", "has 65537 bytes; the limit of namespace \"default\" is 65536"),
		},
		"far too large": {
			text("big:1", strings.Repeat("x", 7<<20)),
			invalid(room.ReasonPayloadTooLarge, "payload", "the limit of namespace \"big\" is 524288"),
		},
		"bad raw JSON": {
			with(func(r *roomcastv1.PublishRequest) {
				r.Payload = &roomcastv1.PublishRequest_RawJson{RawJson: []byte(`{"a":`)}
			}),
			invalid(room.ReasonInvalidJSON, "raw_json", "is not one valid JSON value"),
		},
		"NaN": {
			with(func(r *roomcastv1.PublishRequest) {
				r.Payload = &roomcastv1.PublishRequest_Json{Json: structpb.NewNumberValue(math.NaN())}
			}),
			invalid(room.ReasonInvalidJSON, "json", "NaN"),
		},
		"long event": {
			with(func(r *roomcastv1.PublishRequest) { r.Event = strings.Repeat("e", 65) }),
			invalid(room.ReasonInvalidEvent, "event", "the limit is 64"),
		},
		"long message_id": {
			with(func(r *roomcastv1.PublishRequest) { r.MessageId = strings.Repeat("i", 129) }),
			invalid(room.ReasonInvalidMessageID, "message_id", "the limit is 128"),
		},
		"short ttl": {
			with(func(r *roomcastv1.PublishRequest) { r.Ttl = durationpb.New(999 * time.Millisecond) }),
			invalid(room.ReasonInvalidTTL, "ttl", "at least 1s"),
		},
		"zero ttl": {
			with(func(r *roomcastv1.PublishRequest) { r.Ttl = durationpb.New(0) }),
			invalid(room.ReasonInvalidTTL, "ttl", "is 0s; it must be at least 1s"),
		},
		"ttl that is none": {
			with(func(r *roomcastv1.PublishRequest) { r.Ttl = &durationpb.Duration{Seconds: 1, Nanos: -1} }),
			invalid(room.ReasonInvalidTTL, "ttl", "no valid duration"),
		},
		"bad exclude_user": {
			with(func(r *roomcastv1.PublishRequest) { r.ExcludeUser = "a\x00" }),
			invalid(room.ReasonInvalidUser, "exclude_user", "U+0000"),
		},
	}
}

func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	for name, tt := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := roomcastv1.NewPublishServiceClient(ts.conn).Publish(t.Context(), tt.req)
			tt.want.check(t, status.Convert(err))
			if got := ts.seen(); len(got) != 0 {
				t.Errorf("published: got %d, want none", len(got))
			}
		})
	}
}

func TestPublishMapsThePublishersErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want want
	}{
		"bus away": {
			&room.Error{Kind: room.Unavailable, Reason: room.ReasonBusUnavailable, Msg: "the bus is away", RetryAfter: time.Second},
			want{code: codes.Unavailable, reason: room.ReasonBusUnavailable, retry: true},
		},
		"busy": {
			&room.Error{Kind: room.Exhausted, Reason: room.ReasonBusBusy, Msg: "slow down", RetryAfter: time.Second},
			want{code: codes.ResourceExhausted, reason: room.ReasonBusBusy, retry: true},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := start(t, func(_ *Config, r *recorder) {
				r.answer = func(*room.Publication) (room.Ack, error) { return room.Ack{}, tt.err }
			})
			_, err := roomcastv1.NewPublishServiceClient(ts.conn).Publish(t.Context(), text("a", "x"))
			tt.want.check(t, status.Convert(err))
		})
	}
}

func TestPublishAboveTheHardCapIsRefusedByGRPC(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	_, err := roomcastv1.NewPublishServiceClient(ts.conn).Publish(t.Context(), text("a", strings.Repeat("x", hardCap+1)))
	if got := status.Code(err); got != codes.ResourceExhausted {
		t.Errorf("got %v, want %v", err, codes.ResourceExhausted)
	}
}

func TestPublishBatch(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	batch := &roomcastv1.PublishBatchRequest{}
	for i := range maxBatch {
		batch.Messages = append(batch.Messages, text("room"+strconv.Itoa(i%3), strconv.Itoa(i)))
	}
	batch.Messages[7] = text("", "x")
	resp, err := roomcastv1.NewPublishServiceClient(ts.conn).PublishBatch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(resp.GetResults()); got != maxBatch {
		t.Fatalf("results: got %d, want %d", got, maxBatch)
	}
	for i, result := range resp.GetResults() {
		if i == 7 {
			want{code: codes.InvalidArgument, reason: room.ReasonInvalidRoom, field: "messages[7].room", text: "is empty"}.
				check(t, status.FromProto(result.GetError()))
			continue
		}
		if !result.GetResponse().GetStored() {
			t.Fatalf("result %d: got %v, want it stored", i, result)
		}
	}
	last := -1
	for _, p := range ts.seen() {
		n, err := strconv.Atoi(string(p.Payload.Bytes))
		if err != nil || n <= last {
			t.Fatalf("order: got %q after %d, want the order of the batch", p.Payload.Bytes, last)
		}
		last = n
	}
}

func TestPublishBatchRefusesMore(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	batch := &roomcastv1.PublishBatchRequest{}
	for range maxBatch + 1 {
		batch.Messages = append(batch.Messages, text("a", "x"))
	}
	_, err := roomcastv1.NewPublishServiceClient(ts.conn).PublishBatch(t.Context(), batch)
	want{
		code: codes.InvalidArgument, reason: room.ReasonTooManyMessages, field: "messages",
		text: "has 1001 items; the limit of a batch is 1000",
	}.check(t, status.Convert(err))
	if got := ts.seen(); len(got) != 0 {
		t.Errorf("published: got %d, want none", len(got))
	}
}
