package bench_test

import (
	"testing"

	"github.com/roomcast/roomcast/internal/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m) }
