package bench

import "slices"

// ledger knows which messages of its room one socket has got. Messages are numbered
// from 0. One that was overtaken is kept by its number until it comes: at most as
// many as are in flight, and those that are lost.
type ledger struct {
	top   uint32   // one above the highest that has come
	order uint64   // hash of the order in which they came
	holes []uint32 // below top, and have not come
}

// verdict is what a ledger says of a delivery.
type verdict uint8

const (
	inTurn    verdict = iota
	early             // some before it have not come yet
	overtaken         // a later one came before it
	duplicate         // it has come already
)

// take notes a delivery.
func (l *ledger) take(seq uint32) (v verdict) {
	switch {
	case seq == l.top:
	case seq > l.top:
		v = early
		for missed := l.top; missed < seq; missed++ {
			l.holes = append(l.holes, missed)
		}
	default:
		i := slices.Index(l.holes, seq)
		if i < 0 {
			return duplicate
		}
		v = overtaken
		last := len(l.holes) - 1
		l.holes[i] = l.holes[last]
		l.holes = l.holes[:last]
	}
	l.top = max(l.top, seq+1)
	l.order = (l.order ^ uint64(seq)) * 0x100000001b3 // as in FNV-1a, a number at a time
	return v
}

// has reports whether a message has come.
func (l *ledger) has(seq uint32) bool { return seq < l.top && !slices.Contains(l.holes, seq) }

// missing is how many of the first total messages have not come.
func (l *ledger) missing(total uint32) (n int) {
	for _, hole := range l.holes {
		if hole < total {
			n++
		}
	}
	return n + max(0, int(total)-int(l.top))
}
