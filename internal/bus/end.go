package bus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// proofPause is the least time between two messages that find a log's end: whoever asks
// with positions that he has made up costs the log no more than that.
const proofPause = 10 * time.Millisecond

// endSubject is where a node writes to find out where a log ends. It has a token more
// than a room's, so that it does not pass for one.
func endSubject(namespace string) string { return pubPrefix + namespace + ".~.end.0" }

// isAbove reports whether a sequence lies above a log's end, which says that the log has
// lost it. In a cluster a server may take itself for the leader while another leads,
// such as after a pause or behind a partition, and answer with the end that it knows. It
// cannot store anything, so a message that is stored tells the true end: what is not
// above that is asked again.
func (b *Bus) isAbove(ctx context.Context, s *logStream, info logInfo, seq uint64) (bool, error) {
	if seq <= info.last || info.leader == "" {
		return seq > info.last, nil
	}
	end, err := b.provenEnd(ctx, s)
	if err != nil {
		return false, unavailable(fmt.Errorf("where the log ends: %w", err))
	}
	if end > seq {
		return false, unavailable(fmt.Errorf("the log's leader answered with sequence %d after it had come to %d", info.last, end))
	}
	return true, nil
}

// proof is one message that finds a log's end, for all who ask before it is sent: what
// they ask about is older than it.
type proof struct {
	done chan struct{} // closed once end and err are set
	end  uint64
	err  error
}

// provenEnd returns a sequence that the log has given since the call.
func (b *Bus) provenEnd(ctx context.Context, s *logStream) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s.mu.Lock()
	p := s.proof
	if p == nil {
		p = &proof{done: make(chan struct{})}
		s.proof = p
	}
	if !s.proving {
		s.proving = true
		b.spawn(func() { b.proveEnds(s) })
	}
	s.mu.Unlock()
	select {
	case <-p.done:
		return p.end, p.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-b.ctx.Done():
		return 0, errors.New("the node stops")
	}
}

// proveEnds stores one message after the other for as long as anybody asks.
func (b *Bus) proveEnds(s *logStream) {
	for p := s.nextProof(); p != nil; p = s.nextProof() {
		ctx, cancel := context.WithTimeout(b.ctx, apiTimeout)
		ack, err := b.js.Publish(ctx, endSubject(s.policy.Namespace), nil)
		cancel()
		if p.err = err; err == nil {
			p.end = ack.Sequence
		}
		close(p.done)
		b.wait(proofPause)
	}
}

// nextProof takes what is to be proven now. Who asks later gets another one.
func (s *logStream) nextProof() *proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proof
	s.proof, s.proving = nil, p != nil
	return p
}
