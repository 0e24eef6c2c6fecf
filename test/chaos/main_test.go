package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// root is the module's directory.
const root = "../.."

var (
	seedCount = flag.Int("seeds", 2, "how many seeds TestChaos runs")
	firstSeed = flag.Uint64("seed", 1, "the first seed of TestChaos")
)

// programs are the paths of the binaries that the runs start, and the last port that one
// of them was given.
type programs struct {
	dir, roomcast, nats string
	port                atomic.Uint64
}

var built programs

func TestMain(m *testing.M) { nodetest.Main(m, buildPrograms) }

// buildPrograms builds the program as `make build` does, and the nats-server of the
// version that go.mod names.
func buildPrograms() (cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "roomcast-chaos-")
	if err != nil {
		return nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	built.dir, built.roomcast, built.nats = dir, filepath.Join(dir, "roomcast"), filepath.Join(dir, "nats-server")
	built.port.Store(rand.Uint64N(20_000))
	for path, pkg := range map[string]string{
		built.roomcast: "./cmd/roomcast",
		built.nats:     "github.com/nats-io/nats-server/v2",
	} {
		if err := buildProgram(path, pkg); err != nil {
			cleanup()
			return nil, err
		}
	}
	return cleanup, nil
}

func buildProgram(path, pkg string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", path}, flags...)
	build := exec.Command("go", append(args, pkg)...)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}
