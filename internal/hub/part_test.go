package hub

import (
	"math/rand/v2"
	"testing"
)

// TestPartVisitsAll has cursors come and go between the slices of rounds. Who is there
// from a round's beginning to its end is visited in it once; and each knows its place.
func TestPartVisitsAll(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		p := &Part{room: &Room{}}
		var there []*Cursor
		visits := make(map[*Cursor]int)
		for range 300 {
			switch n := rng.IntN(10); {
			case n < 4:
				c := &Cursor{part: p, index: notWalking}
				p.add(c)
				there = append(there, c)
			case n < 8 && len(there) > 0:
				i := rng.IntN(len(there))
				p.remove(there[i])
				delete(visits, there[i])
				there = append(there[:i], there[i+1:]...)
			case n >= 8:
				list, _ := p.slice(nil, 1+rng.IntN(10))
				for _, c := range list {
					visits[c]++
				}
				if p.visited > 0 {
					break
				}
				for _, c := range there { // the round is over
					if visits[c] != 1 {
						t.Fatalf("seed %d: visited %d times in a round, want once", seed, visits[c])
					}
				}
				clear(visits)
			}
			if len(p.cursors) != len(there) {
				t.Fatalf("seed %d: %d cursors, want %d", seed, len(p.cursors), len(there))
			}
			for i, c := range p.cursors {
				if int(c.index) != i {
					t.Fatalf("seed %d: the cursor at %d holds that it is at %d", seed, i, c.index)
				}
			}
		}
	}
}
