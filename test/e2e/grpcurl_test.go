package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/nodetest"
)

const publishMethod = "roomcast.v1.PublishService/Publish"

// grpcurl calls a node with the grpcurl that the Makefile builds.
func grpcurl(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", "grpcurl"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; type: make bin/grpcurl", err)
	}
	return run(t, path, args...)
}

// answer is what grpcurl shows of a status with -format-error.
type answer struct {
	Code    int                          `json:"code"`
	Message string                       `json:"message"`
	Details []map[string]json.RawMessage `json:"details"`
}

// detail returns a field of the first detail of a type, as JSON; "" if there is none.
func (a answer) detail(kind, field string) string {
	for _, d := range a.Details {
		if string(d["@type"]) == `"type.googleapis.com/google.rpc.`+kind+`"` {
			return string(d[field])
		}
	}
	return ""
}

// refused calls a method that must fail. grpcurl's exit code is 64 and the status code.
func refused(t testing.TB, args ...string) answer {
	t.Helper()
	_, stderr, code := grpcurl(t, append([]string{"-format-error"}, args...)...)
	var a answer
	if err := json.Unmarshal([]byte(stderr), &a); err != nil {
		t.Fatalf("grpcurl: exit code %d, %v: %s", code, err, stderr)
	}
	if code != 64+a.Code {
		t.Errorf("grpcurl: exit code %d for status %d", code, a.Code)
	}
	return a
}

func TestGrpcurlExplores(t *testing.T) {
	t.Parallel()
	s := serve(t, "--dev", "--data-dir", t.TempDir())
	tests := map[string]struct {
		args []string
		want []string
	}{
		"list": {
			[]string{s.GRPC, "list"},
			[]string{
				"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "roomcast.v1.PublishService", "roomcast.v1.PresenceService",
				"roomcast.v1.HistoryService", "roomcast.v1.ConnectionService", "roomcast.v1.ClusterService",
			},
		},
		"list of a service": {
			[]string{s.GRPC, "list", "roomcast.v1.PublishService"},
			[]string{"PublishService.Publish\n", "PublishService.PublishBatch\n", "PublishService.PublishStream\n"},
		},
		"describe": {
			[]string{s.GRPC, "describe", "roomcast.v1.PublishRequest"},
			[]string{"oneof payload", "google.protobuf.Value json", "bytes raw_json", "string text", "bytes data", "message_id", "exclude_user"},
		},
		"health": {
			[]string{s.GRPC, "grpc.health.v1.Health/Check"},
			[]string{`"status": "SERVING"`},
		},
		"health of the service": {
			[]string{"-d", `{"service":"roomcast.v1.PublishService"}`, s.GRPC, "grpc.health.v1.Health/Check"},
			[]string{`"status": "SERVING"`},
		},
		"publish": {
			[]string{"-d", `{"room":"orders:42","json":{"state":"paid"}}`, s.GRPC, publishMethod},
			[]string{`"id": "`, `"stored": true`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := grpcurl(t, append([]string{"-plaintext"}, test.args...)...)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("got %s, want %s in it", stdout, want)
				}
			}
		})
	}
}

// Status codes, as numbers: what grpcurl shows.
const (
	invalidArgument  = 3
	permissionDenied = 7
	unavailable      = 14
	unauthenticated  = 16
)

// TestGrpcurlRefusals has every error of Publish that the contract names.
func TestGrpcurlRefusals(t *testing.T) {
	t.Parallel()
	key := write(t, "key", "0123456789abcdef0123456789abcdef")
	s := serve(t, "--token-hmac-key-file", key, "--reflection", "--data-dir", t.TempDir())
	backend := must(t, "token", "mint", "--key-file", key, "--user", "shop", "--rooms", "*", "--rights", "publish", "--rpc", "publish")
	orders := must(t, "token", "mint", "--key-file", key, "--user", "shop", "--rooms", "orders:*", "--rights", "publish", "--rpc", "publish")
	reader := must(t, "token", "mint", "--key-file", key, "--user", "shop", "--rooms", "*", "--rpc", "history")
	tests := map[string]struct {
		token  string
		method string // Publish if empty
		data   string
		code   int
		reason string
		field  string
	}{
		"empty room":         {backend, "", `{"room":"","text":"x"}`, invalidArgument, "INVALID_ROOM", "room"},
		"no room":            {backend, "", `{"text":"x"}`, invalidArgument, "INVALID_ROOM", "room"},
		"asterisk":           {backend, "", `{"room":"orders:*","text":"x"}`, invalidArgument, "INVALID_ROOM", "room"},
		"201 bytes":          {backend, "", `{"room":"` + strings.Repeat("r", 201) + `","text":"x"}`, invalidArgument, "INVALID_ROOM", "room"},
		"201 bytes of UTF-8": {backend, "", `{"room":"` + strings.Repeat("中", 67) + `","text":"x"}`, invalidArgument, "INVALID_ROOM", "room"},
		"control character":  {backend, "", `{"room":"a\u0007b","text":"x"}`, invalidArgument, "INVALID_ROOM", "room"},
		"too large":          {backend, "", `{"room":"a","text":"` + strings.Repeat("x", 65537) + `"}`, invalidArgument, "PAYLOAD_TOO_LARGE", "payload"},
		"bad JSON":           {backend, "", `{"room":"a","raw_json":"ew=="}`, invalidArgument, "INVALID_JSON", "raw_json"},
		"long event":         {backend, "", `{"room":"a","text":"x","event":"` + strings.Repeat("e", 65) + `"}`, invalidArgument, "INVALID_EVENT", "event"},
		"long message id":    {backend, "", `{"room":"a","text":"x","message_id":"` + strings.Repeat("m", 129) + `"}`, invalidArgument, "INVALID_MESSAGE_ID", "message_id"},
		"short ttl":          {backend, "", `{"room":"a","text":"x","ttl":"0.5s"}`, invalidArgument, "INVALID_TTL", "ttl"},
		"no credentials":     {"", "", `{"room":"a","text":"x"}`, unauthenticated, "TOKEN_MISSING", ""},
		"bad token":          {"nonsense", "", `{"room":"a","text":"x"}`, unauthenticated, "TOKEN_INVALID", ""},
		"another room":       {orders, "", `{"room":"users:1","text":"x"}`, permissionDenied, "FORBIDDEN", ""},
		"another service":    {reader, "", `{"room":"a","text":"x"}`, permissionDenied, "FORBIDDEN", ""},
		"another group":      {backend, "roomcast.v1.PresenceService/ListMembers", `{"room":"a"}`, permissionDenied, "FORBIDDEN", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"-plaintext", "-d", test.data}
			if test.token != "" {
				args = append(args, "-H", "Authorization: Bearer "+test.token)
			}
			method := test.method
			if method == "" {
				method = publishMethod
			}
			got := refused(t, append(args, s.GRPC, method)...)
			field := ""
			if v := got.detail("BadRequest", "fieldViolations"); v != "" {
				var violations []struct{ Field string }
				if err := json.Unmarshal([]byte(v), &violations); err != nil || len(violations) != 1 {
					t.Fatalf("field violations %s, %v; want one", v, err)
				}
				field = violations[0].Field
			}
			want := []string{strconv.Itoa(test.code), strconv.Quote(test.reason), `"roomcast"`, test.field}
			have := []string{strconv.Itoa(got.Code), got.detail("ErrorInfo", "reason"), got.detail("ErrorInfo", "domain"), field}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("code, reason, domain, field (-want +got):\n%s%s", diff, got.Message)
			}
			if test.token != "" && strings.Contains(got.Message, test.token) {
				t.Errorf("the message holds the token: %s", got.Message)
			}
		})
	}
}

// The history of a room by hand: watch it, list it both ways, purge it, watch on.
func TestGrpcurlHistory(t *testing.T) {
	t.Parallel()
	const service = "roomcast.v1.HistoryService/"
	s := serve(t, "--dev", "--data-dir", t.TempDir())
	path, err := filepath.Abs(filepath.Join(root, "bin", "grpcurl"))
	if err != nil {
		t.Fatal(err)
	}
	watch := startCommand(t, nil, path, "-v", "-plaintext", "-d", `{"room":"a"}`, s.GRPC, service+"WatchMessages")
	shows := func(p *process, what string) {
		t.Helper()
		nodetest.Eventually(t, patience, p.name+" shows "+what, func() bool { return strings.Contains(p.output(), what) })
	}
	shows(watch, "roomcast-position: ") // it has begun
	first := must(t, "pub", "--grpc-addr", s.GRPC, "a", `{"n":1}`)
	must(t, "pub", "--grpc-addr", s.GRPC, "a", `{"n":2}`)
	shows(watch, `"id": "`+first+`"`)
	shows(watch, `"n": 2`)
	resumed := startCommand(t, nil, path, "-plaintext", "-d", `{"room":"a","after":"`+first+`"}`, s.GRPC, service+"WatchMessages")
	shows(resumed, `"n": 2`)
	call := func(method, data string) string {
		t.Helper()
		stdout, stderr, code := grpcurl(t, "-plaintext", "-d", data, s.GRPC, service+method)
		if code != 0 {
			t.Fatalf("%s: exit code %d: %s", method, code, stderr)
		}
		return strings.Join(strings.Fields(stdout), "")
	}
	forth, back := call("ListMessages", `{"room":"a"}`), call("ListMessages", `{"room":"a","newest_first":true}`)
	if strings.Index(forth, `"n":1`) > strings.Index(forth, `"n":2`) || strings.Index(back, `"n":1`) < strings.Index(back, `"n":2`) {
		t.Errorf("listed %s and newest first %s", forth, back)
	}
	if got := call("PurgeRoom", `{"room":"a"}`); got != `{"purged":2}` {
		t.Errorf("purged: %s, want 2", got)
	}
	if got := call("ListMessages", `{"room":"a"}`); got != "{}" {
		t.Errorf("listed after the purge: %s", got)
	}
	shows(watch, `"reason": "TRUNCATED"`)
	shows(resumed, `"reason": "TRUNCATED"`)
	s.stop()
	for _, p := range []*process{watch, resumed} {
		if code := p.wait(patience); code != 64+unavailable {
			t.Errorf("%s: exit code %d after the drain, want %d", p.name, code, 64+unavailable)
		}
	}
}

// TestGrpcurlBusAway kills the nats-server: not ready, and Publish fails, within the 15 s
// of a call without a deadline, with the advice to retry.
func TestGrpcurlBusAway(t *testing.T) {
	t.Parallel()
	nats, url := startNATS(t)
	s := serve(t, "--dev", "--nats-url", url)
	must(t, "pub", "--grpc-addr", s.GRPC, "hello", "one")
	nats.kill()
	s.eventuallyNotServing()
	nodetest.Eventually(t, patience, "the node knows that NATS is away", func() bool {
		_, said, _ := run(t, built.roomcast, "health", "--admin-addr", s.Admin)
		return strings.Contains(said, "ctl, live, pub")
	})
	got := refused(t, "-plaintext", "-d", `{"room":"hello","text":"two","message_id":"two"}`, s.GRPC, publishMethod)
	if got.Code != unavailable || got.detail("ErrorInfo", "reason") != `"BUS_UNAVAILABLE"` || got.detail("RetryInfo", "retryDelay") == "" {
		t.Errorf("got %+v, want UNAVAILABLE, BUS_UNAVAILABLE and a RetryInfo", got)
	}
	health, _, code := run(t, built.roomcast, "health", "--admin-addr", s.Admin)
	if code != 1 {
		t.Errorf("roomcast health: exit code %d, %s; want 1", code, health)
	}
}

// eventuallyNotServing waits until the gRPC health service says NOT_SERVING.
func (s *server) eventuallyNotServing() {
	s.t.Helper()
	states := []string{}
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		stdout, _, _ := grpcurl(s.t, "-plaintext", s.GRPC, "grpc.health.v1.Health/Check")
		if strings.Contains(stdout, "NOT_SERVING") {
			return
		}
		states = append(states, strings.TrimSpace(stdout))
	}
	s.t.Errorf("health stays %q without a bus", slices.Compact(states))
}
