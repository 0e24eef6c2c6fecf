package bus

// What to do when messages may have been lost on the way: rooms are read to the log's
// end, one where that is known, all after the connection was away.

// resyncSubject reads a room to the log's end: a message of it was lost on the way.
func (s *shard) resyncSubject(subject, why string) {
	lr := s.rooms[subject]
	if lr == nil || lr.log.stream == nil {
		return
	}
	if lr.state != ready {
		lr.dirty = true
		return
	}
	s.bus.log.Debug("resync", "room", lr.log.name, "why", why)
	s.fill(lr, 0)
}

// overrun takes note that the client has dropped a message of a room because the
// shard's channel was full. nats.go tells it once, not again for further ones until a
// message gets through, so the count is looked at from now on.
func (s *shard) overrun(subject string) {
	if s.rooms[subject] != nil {
		s.slow[subject] = true
		s.checkDropped()
	}
}

// checkDropped reads rooms to the log's end whose messages were dropped.
func (s *shard) checkDropped() {
	for subject := range s.slow {
		lr := s.rooms[subject]
		if lr == nil || lr.sub == nil {
			continue
		}
		dropped, err := lr.sub.Dropped()
		if err != nil || dropped == lr.lost {
			continue
		}
		s.bus.cfg.Metrics.BusDropped.Add(float64(dropped - lr.lost))
		lr.lost = dropped
		s.resyncSubject(subject, "channel full")
	}
}

// resyncAll reads every room to the log's end after the connection was away, few at a
// time: tens of thousands take seconds, and a room is to wait for itself only. Until its
// turn it stays as it is; a message of it makes it its turn.
func (s *shard) resyncAll() {
	s.doubtAll()
	s.prove()
}

// doubtAll notes that messages of every room may be lost from now on, or were until now.
func (s *shard) doubtAll() {
	s.doubts++
	s.doubt = s.doubt[:0]
	for _, lr := range s.rooms {
		switch {
		case lr.log.stream == nil:
		case lr.state != ready:
			lr.dirty = true
		default:
			lr.doubted = true
			s.doubt = append(s.doubt, lr)
		}
	}
}

// prove gives rooms that are in doubt their turn.
func (s *shard) prove() {
	for s.turns < shardTurns && len(s.doubt) > 0 {
		lr := s.doubt[len(s.doubt)-1]
		s.doubt = s.doubt[:len(s.doubt)-1]
		if s.rooms[lr.subject] != lr || !lr.doubted || lr.state != ready {
			continue
		}
		lr.inTurn = true
		s.turns++
		s.fill(lr, 0)
	}
	if len(s.doubt) == 0 {
		s.doubt = nil
	}
}

// proved ends a room's turn, if it had one.
func (s *shard) proved(lr *liveRoom) {
	if lr.inTurn {
		lr.inTurn = false
		s.turns--
		s.prove()
	}
}
