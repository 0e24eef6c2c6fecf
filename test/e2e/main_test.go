package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// patience bounds every wait for something that takes milliseconds on a quiet
// machine.
const patience = 2 * time.Minute

// root is the module's directory.
const root = "../.."

var lineCount = flag.Int("lines", 20_000, "lines of the delivery tests' file, at most 100000")

// programs are the paths of the binaries that the tests run.
type programs struct{ roomcast, nats string }

var built programs

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == crowdCommand {
		if err := crowdProcess(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	nodetest.Main(m, buildPrograms)
}

// buildPrograms builds the program as `make build` does, so that both share the
// build cache, and the nats-server of the version that go.mod names.
func buildPrograms() (cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "roomcast-e2e-")
	if err != nil {
		return nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	built = programs{roomcast: filepath.Join(dir, "roomcast"), nats: filepath.Join(dir, "nats-server")}
	for path, pkg := range map[string]string{
		built.roomcast: "./cmd/roomcast",
		built.nats:     "github.com/nats-io/nats-server/v2",
	} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			cleanup()
			return nil, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return cleanup, nil
}

// TestSourcesAreKnown makes `go test` see the sources of the program, which no test
// imports, so that it takes no result for another program from its cache.
func TestSourcesAreKnown(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "cmd", "roomcast", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}
