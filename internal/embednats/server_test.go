package embednats

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func start(t *testing.T, c Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func connect(t *testing.T, s *Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", s.ConnOption())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// checkMessages reads the tests' stream back, message by message.
func checkMessages(t *testing.T, nc *nats.Conn, want int) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "TEST")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != uint64(want) {
		t.Fatalf("got %d messages, want %d", got, want)
	}
	for i := range want {
		msg, err := stream.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(msg.Data); got != strconv.Itoa(i) {
			t.Fatalf("got message %q at %d, want %d", got, i+1, i)
		}
	}
}

func TestRestartKeepsMessages(t *testing.T) {
	t.Parallel()
	for name, always := range map[string]bool{"sync each second": false, "sync always": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "deep", "data")
			s := start(t, Config{Dir: dir, SyncAlways: always})
			nc := connect(t, s)
			if err := publish(t.Context(), nc, 100); err != nil {
				t.Fatal(err)
			}
			nc.Close()
			s.Shutdown()

			checkMessages(t, connect(t, start(t, Config{Dir: dir, SyncAlways: always})), 100)
		})
	}
}

// TestKilledProcess: the lock of a killed process is free, and what it acknowledged
// is there.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := startChild(t, dir, 200)

	if _, err := Start(t.Context(), Config{Dir: dir}); !isLocked(err, dir) {
		t.Errorf("got %v, want the directory locked", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	checkMessages(t, connect(t, start(t, Config{Dir: dir})), 200)
}

// TestSecondProcess: a second process on the directory is told what to do.
func TestSecondProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	out, err := childCommand(t, dir, 0).CombinedOutput()
	if err == nil {
		t.Fatal("the second process started")
	}
	if !isLocked(errors.New(strings.TrimSpace(string(out))), dir) {
		t.Errorf("got %q", out)
	}
	if err := publish(t.Context(), connect(t, s), 1); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
}

func isLocked(err error, dir string) bool {
	return err != nil && err.Error() == "data directory "+strconv.Quote(dir)+
		" is locked by another roomcast; stop it or choose another --data-dir"
}

func childCommand(t *testing.T, dir string, count int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCount+"="+strconv.Itoa(count))
	return cmd
}

// startChild returns once the child has published and holds the lock.
func startChild(t *testing.T, dir string, count int) *exec.Cmd {
	t.Helper()
	cmd := childCommand(t, dir, count)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // stays open: the child waits for its end
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("got %q, %v from the child; want ready", line, err)
	}
	return cmd
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s.Shutdown()
			// Each caller may use the directory as soon as its call returns. One of
			// them gets it, the others find it locked, and nobody finds it broken.
			again, err := Start(t.Context(), Config{Dir: dir})
			if err == nil {
				again.Shutdown()
			} else if !isLocked(err, dir) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.Shutdown()
	start(t, Config{Dir: dir})
}

// TestSettings: what the server says of itself.
func TestSettings(t *testing.T) {
	t.Parallel()
	for name, always := range map[string]bool{"interval": false, "always": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{Dir: t.TempDir(), MaxStore: 123 << 20, SyncAlways: always})
			if addr := s.nats.Addr(); addr != nil {
				t.Errorf("it listens on %s", addr)
			}
			js := s.nats.JetStreamConfig()
			if js.MaxStore != 123<<20 || js.SyncAlways != always || js.SyncInterval != syncInterval {
				t.Errorf("got max store %d, sync always %t, sync interval %s", js.MaxStore, js.SyncAlways, js.SyncInterval)
			}
			nc := connect(t, s)
			if got := nc.MaxPayload(); got != maxPayload {
				t.Errorf("got max payload %d, want %d", got, maxPayload)
			}
			if got := nc.ConnectedServerName(); got != serverName {
				t.Errorf("got server name %q, want %q", got, serverName)
			}
		})
	}
}

func TestDynamicMaxStore(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Dir: t.TempDir()})
	if js := s.nats.JetStreamConfig(); js.MaxStore <= 0 || js.SyncInterval != syncInterval {
		t.Errorf("got max store %d, sync interval %s", js.MaxStore, js.SyncInterval)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir() // the store's folder is a file
	if err := os.WriteFile(filepath.Join(broken, storeFolder), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	odd := t.TempDir() // the lock is a folder
	if err := os.Mkdir(filepath.Join(odd, lockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		ctx  context.Context //nolint:containedctx // one of the inputs
		dir  string
		want []string
	}{
		"canceled":             {canceled, t.TempDir(), []string{"context canceled"}},
		"no directory":         {t.Context(), "", []string{"--data-dir"}},
		"a file":               {t.Context(), file, []string{strconv.Quote(file), "--data-dir", "make it writable"}},
		"below a file":         {t.Context(), filepath.Join(file, "x"), []string{strconv.Quote(filepath.Join(file, "x")), "--data-dir"}},
		"store folder a file":  {t.Context(), broken, []string{strconv.Quote(broken), "can't start JetStream"}},
		"lock file a folder":   {t.Context(), odd, []string{strconv.Quote(odd), "--data-dir"}},
		"NUL in the directory": {t.Context(), "a\x00b", []string{`"a\x00b"`, "--data-dir"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Start(tc.ctx, Config{Dir: tc.dir})
			if err == nil {
				s.Shutdown()
				t.Fatal("it started")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
		})
	}
}

// TestFailedStartFreesDirectory: a start that failed with the lock in hand gives it
// back.
func TestFailedStartFreesDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	obstacle := filepath.Join(dir, storeFolder)
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{Dir: dir}); err == nil {
		t.Fatal("it started")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Dir: dir})
}

func TestDirectoryIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	start(t, Config{Dir: dir})
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got&0o077 != 0 {
		t.Errorf("got mode %o, want nothing for others", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != storeFolder+" "+lockFile {
		t.Errorf("got entries %q", got)
	}
}
