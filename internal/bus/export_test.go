package bus

import "context"

// IsAbove is isAbove after a server that leads no more has told where the log ends.
func (b *Bus) IsAbove(ctx context.Context, namespace string, told, seq uint64) (bool, error) {
	return b.isAbove(ctx, b.streams[namespace], logInfo{last: told, leader: "was"}, seq)
}
