package e2e

import (
	"net"
	"regexp"
	"testing"
)

// Each of these must not start: exit code 2, nothing on standard output, and a
// message that names the setting and the mend.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	key := write(t, "key", "0123456789abcdef0123456789abcdef")
	taken := takenPort(t)
	running := serve(t, "--dev", "--data-dir", t.TempDir())
	tests := map[string]struct {
		args []string
		want string // of the message, a regular expression
	}{
		"sockets off loopback without TLS": {
			[]string{"--token-hmac-key-file", key, "--http-addr", "0.0.0.0:0"},
			`--http-addr .*--tls-cert and --tls-key.*--http-plaintext`,
		},
		"gRPC off loopback without TLS": {
			[]string{"--token-hmac-key-file", key, "--http-plaintext", "--http-addr", ":0", "--grpc-addr", ":0"},
			`--grpc-addr .*--tls-cert and --tls-key.*--grpc-plaintext`,
		},
		"development on a public address": {
			[]string{"--dev", "--http-addr", "0.0.0.0:0"},
			`--http-addr .*--dev.*127\.0\.0\.1`,
		},
		"development on a public admin address": {
			[]string{"--dev", "--admin-addr", "[::]:0"},
			`--admin-addr .*--dev.*127\.0\.0\.1`,
		},
		"no keys": {
			nil,
			`no token keys.*--token-hmac-key-file or --token-public-key-file, or use --dev`,
		},
		"missing key file": {
			[]string{"--token-hmac-key-file", "nowhere"},
			`--token-hmac-key-file.*nowhere`,
		},
		"taken public port": {
			[]string{"--dev", "--http-addr", taken},
			`--http-addr: .*taken.*choose another port`,
		},
		"taken control port": {
			[]string{"--dev", "--grpc-addr", taken},
			`--grpc-addr: .*taken.*choose another port`,
		},
		"taken admin port": {
			[]string{"--dev", "--admin-addr", taken},
			`--admin-addr: .*taken.*choose another port`,
		},
		"directory of another node": {
			[]string{"--dev", "--data-dir", running.dataDir()},
			`locked by another roomcast; .*--data-dir`,
		},
		"unknown key in the file": {
			[]string{"--dev", "--config", write(t, "typo.yaml", "http_adr: 127.0.0.1:0\n")},
			`http_adr`,
		},
		"unknown key of a namespace": {
			[]string{"--dev", "--config", write(t, "typo.yaml", "namespaces:\n  chat:\n    histroy:\n      size: 1\n")},
			`histroy`,
		},
		"unknown flag": {
			[]string{"--dev", "--htp-addr", "127.0.0.1:0"},
			`--htp-addr`,
		},
		"history out of range": {
			[]string{"--dev", "--config", write(t, "c.yaml", "namespaces:\n  chat:\n    history:\n      ttl: 1m\n")},
			`namespaces\.chat.*history\.ttl.*2m`,
		},
		"copies of an embedded log": {
			[]string{"--dev", "--nats-replicas", "3"},
			`--nats-replicas .*--nats-url`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkRefusal(t, start(t, serveArgs(test.args...)...), test.want)
		})
	}
}

// The limit of open files is a process's own, so a shell sets it.
func TestRefusesFewDescriptors(t *testing.T) {
	t.Parallel()
	shell := append([]string{"-c", `ulimit -n 128; exec "$0" "$@"`, built.roomcast}, serveArgs("--dev")...)
	checkRefusal(t, startCommand(t, nil, "sh", shell...), `open files is 128 .*ulimit -n`)
}

func TestShrinkingNeedsConsent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const history = "namespaces:\n  default:\n    history:\n      size: "
	large, small := write(t, "large.yaml", history+"100\n"), write(t, "small.yaml", history+"2\n")
	s := serve(t, "--dev", "--data-dir", dir, "--config", large)
	for _, text := range []string{"1", "2", "3"} {
		must(t, "pub", "--grpc-addr", s.GRPC, "hello", text)
	}
	s.stop()
	args := []string{"--dev", "--data-dir", dir, "--config", small}
	checkRefusal(t, start(t, serveArgs(args...)...), `history\.size 100 to 2.*--allow-shrink`)
	s = serve(t, append(args, "--allow-shrink")...)
	var kept []string
	for _, m := range listMessages(t, s, "hello") {
		kept = append(kept, string(m.GetRawJson()))
	}
	if len(kept) != 2 || kept[0] != "2" || kept[1] != "3" {
		t.Errorf("the history holds %q, want the newest two", kept)
	}
}

func checkRefusal(t testing.TB, p *process, want string) {
	t.Helper()
	if code := p.wait(patience); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if got := p.errors(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("it says %q, want a match of %s", got, want)
	}
	if got := p.output(); got != "" {
		t.Errorf("standard output has %q", got)
	}
}

// takenPort returns an address that somebody listens on until the test ends.
func takenPort(t testing.TB) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	return lis.Addr().String()
}
