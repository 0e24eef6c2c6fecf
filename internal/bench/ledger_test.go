package bench

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		seqs    []uint32
		want    []verdict
		total   uint32
		missing int
	}{
		"in order":             {[]uint32{0, 1, 2}, []verdict{inTurn, inTurn, inTurn}, 3, 0},
		"nothing":              {nil, nil, 3, 3},
		"a hole":               {[]uint32{0, 2}, []verdict{inTurn, early}, 3, 1},
		"a hole at the begin":  {[]uint32{1, 2}, []verdict{early, inTurn}, 3, 1},
		"a hole at the end":    {[]uint32{0, 1}, []verdict{inTurn, inTurn}, 3, 1},
		"again":                {[]uint32{0, 0, 1, 0}, []verdict{inTurn, duplicate, inTurn, duplicate}, 2, 0},
		"again while early":    {[]uint32{2, 2}, []verdict{early, duplicate}, 3, 2},
		"overtaken":            {[]uint32{1, 0, 2}, []verdict{early, overtaken, inTurn}, 3, 0},
		"overtaken, again":     {[]uint32{1, 0, 0}, []verdict{early, overtaken, duplicate}, 2, 0},
		"overtaken by far":     {[]uint32{5000, 4998}, []verdict{early, overtaken}, 5001, 4999},
		"beyond the total":     {[]uint32{0, 1, 5}, []verdict{inTurn, inTurn, early}, 4, 2},
		"in turn behind holes": {[]uint32{2, 3, 4}, []verdict{early, inTurn, inTurn}, 5, 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l ledger
			var got []verdict
			for _, seq := range test.seqs {
				got = append(got, l.take(seq))
				if !l.has(seq) {
					t.Errorf("has(%d) is false after it came", seq)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
			if got := l.missing(test.total); got != test.missing {
				t.Errorf("missing %d, want %d", got, test.missing)
			}
		})
	}
}

// TestLedgerAgainstSet compares the ledger with a set over random deliveries.
func TestLedgerAgainstSet(t *testing.T) {
	t.Parallel()
	const total = 200
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var l ledger
		come := map[uint32]bool{}
		for range 300 {
			seq := uint32(random.IntN(total))
			if again := l.take(seq) == duplicate; again != come[seq] {
				t.Fatalf("seed %d: message %d is a duplicate: got %t, want %t", seed, seq, again, come[seq])
			}
			come[seq] = true
		}
		if got, want := l.missing(total), total-len(come); got != want {
			t.Fatalf("seed %d: missing %d, want %d", seed, got, want)
		}
		for seq := range uint32(total) {
			if l.has(seq) != come[seq] {
				t.Fatalf("seed %d: has(%d) is %t", seed, seq, l.has(seq))
			}
		}
	}
}

func TestLedgerOrder(t *testing.T) {
	t.Parallel()
	order := func(seqs ...uint32) uint64 {
		var l ledger
		for _, seq := range seqs {
			l.take(seq)
		}
		return l.order
	}
	seen := order(0, 2, 1)
	if again := order(0, 2, 1); again != seen || order(0, 1, 2) == seen || order(1, 0, 2) == seen {
		t.Error("the hash does not tell orders apart")
	}
}
