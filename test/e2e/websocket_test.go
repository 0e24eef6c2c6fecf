package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// TestThirdPartyWebSocket shows a message to wscat, the client that the banner of
// --dev names. Its version is that of ws/package-lock.json.
func TestThirdPartyWebSocket(t *testing.T) {
	t.Parallel()
	wscat := installWscat(t)
	s := serve(t, "--dev", "--data-dir", t.TempDir())
	keyboard, typed, err := os.Pipe() // wscat ends with its standard input
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = typed.Close() })
	listener := startCommand(t, keyboard, "node", wscat, "--connect", "ws://"+s.HTTP+"/v1/ws?room=hello")
	_ = keyboard.Close() // the child has its own
	shows := func(text string) {
		t.Helper()
		nodetest.Eventually(t, patience, "wscat shows "+text, func() bool { return strings.Contains(listener.output(), text) })
	}
	shows(`{"welcome":{`)
	shows(`{"subscribed":{"room":"hello"`)
	must(t, "pub", "--grpc-addr", s.GRPC, "hello", `{"text":"from pub"}`)
	shows(`"json":{"text":"from pub"}`)
	if _, stderr, code := grpcurl(t, "-plaintext", "-d", `{"room":"hello","json":{"text":"from grpcurl"}}`, s.GRPC, publishMethod); code != 0 {
		t.Fatalf("grpcurl: exit code %d: %s", code, stderr)
	}
	shows(`"json":{"text":"from grpcurl"}`)
	if _, err := typed.WriteString(`{"id":7,"ping":{}}` + "\n"); err != nil {
		t.Fatal(err)
	}
	shows(`{"id":7,"pong":{}}`)
}

// installWscat returns the program's path and installs it if it is not there.
func installWscat(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("ws/node_modules/wscat/bin/wscat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if _, err := exec.LookPath("npm"); err != nil {
		t.Fatalf("%v; this test runs wscat: install Node.js 20 or newer with npm", err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = "ws"
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return path
}
