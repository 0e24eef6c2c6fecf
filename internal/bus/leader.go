package bus

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// leaderElected is where NATS tells, followed by a stream's name, that it has a leader.
const leaderElected = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED."

// watchLeaders has a log's new leader noticed when NATS tells of it. Where the account
// may not hear that, or it is lost, the next look at the log notices it, if it is another.
func (b *Bus) watchLeaders() error {
	for _, s := range b.streams {
		if _, err := b.ctl.Subscribe(leaderElected+s.name, s.elected); err != nil {
			return fmt.Errorf("subscribe to elections: %w", err)
		}
	}
	return nil
}

// elected has the log looked at because it has a leader again: if nobody asked meanwhile
// it may be the one that it had before.
func (s *logStream) elected(*nats.Msg) { s.audit.soon(0) }

// noteLeader has the rooms of a log looked at whose leader has changed: what the old
// one did not republish, the new one does not either.
func (b *Bus) noteLeader(s *logStream, info logInfo) {
	if info.leader == "" {
		return // there is none yet, or no cluster
	}
	s.mu.Lock()
	before := s.leader
	s.leader = info.leader
	s.mu.Unlock()
	if before != "" && before != info.leader {
		b.log.Info("the log has another leader", "stream", s.name, "leader", info.leader, "before", before)
		s.audit.soon(0)
	}
}
