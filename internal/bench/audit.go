package bench

import "slices"

// audit compares what each open socket has got with what was published. It is for the
// end, when nothing is read any more. It returns how many deliveries are missing, and
// counts sockets that saw another order than most of their room.
func (l *load) audit() (lost int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	failed := make(map[uint32][]uint32) // numbers by room
	for key := range l.failed {
		room, seq := splitKey(key)
		failed[room] = append(failed[room], seq)
	}
	orders := make([]map[uint64]int64, l.Rooms) // of each room, how many complete sockets saw an order
	for _, s := range slices.Concat(l.sockets, l.stalled) {
		if s.closed {
			continue
		}
		missing := int64(s.ledger.missing(l.total(s.room)))
		for _, seq := range failed[s.room] {
			if !s.ledger.has(seq) {
				missing--
			}
		}
		lost += max(missing, 0)
		if missing != 0 || len(failed[s.room]) > 0 {
			continue
		}
		if orders[s.room] == nil {
			orders[s.room] = make(map[uint64]int64, 1)
		}
		orders[s.room][s.ledger.order]++
	}
	for room, seen := range orders {
		l.compareOrders(l.rooms[room], seen)
	}
	return lost
}

// total is how many messages a room was sent. Rooms take turns.
func (l *load) total(room uint32) uint32 {
	rooms := uint64(l.Rooms) //nolint:gosec // positive
	return uint32((l.begun + rooms - 1 - uint64(room)) / rooms)
}

// compareOrders counts the sockets of a room that did not see what most saw. In ordered
// loads each delivery was judged when it came.
func (l *load) compareOrders(room string, seen map[uint64]int64) {
	if len(seen) < 2 || l.ordered() {
		return
	}
	all, most := int64(0), int64(0)
	for _, sockets := range seen {
		all += sockets
		most = max(most, sockets)
	}
	l.problems.note(&l.problems.reordered, "%d of %d sockets of %s saw another order than the others", all-most, all, room)
	l.problems.reordered.Add(all - most - 1)
}
