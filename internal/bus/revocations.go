package bus

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// Revoked tokens stand in a stream of their own, one entry for each user or token id,
// republished to every node.
const (
	revokedStream = "RC__REVOCATIONS" // no namespace begins with "_"
	revokedPrefix = "rc.revoked."
	revokedLive   = "rc.ctl.revoked."

	// RevokedLife is how long a revocation is kept: no token that was good at its making
	// lives longer.
	RevokedLife = auth.MaxLifetime + time.Hour

	revokedEvery    = time.Second     // the stream is looked at: what was republished may have been lost
	revokedPatience = 5 * time.Second // without having seen all of it the node is not ready
	revokedBatch    = 1000            // entries that are read at a time
	revokeTries     = 10              // against other nodes that revoke the same
)

// revocations is what this node has learned of the stream.
type revocations struct {
	bus   *Bus                    // static
	learn func([]room.Revocation) // static once followed
	poke  chan struct{}           // one slot: look now

	mu      sync.Mutex // guards what follows
	created string     // tells one stream of the name from another
	learned uint64     // every entry up to this sequence
	current time.Time  // when that was last found to be all; zero = not followed
}

func newRevocations(b *Bus) *revocations {
	return &revocations{bus: b, poke: make(chan struct{}, 1)}
}

// Revoke stores a revocation, so that every node learns it: those that are there at
// once, those that are away before they serve. Of two for the same tokens the stronger
// stays. Errors are of kind Unavailable; it may be stored all the same, and revoking
// again is safe.
func (b *Bus) Revoke(ctx context.Context, r room.Revocation) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	subject := revokedSubject(r)
	for range revokeTries {
		before, seq, err := b.storedRevocation(ctx, subject)
		if err != nil {
			return notRevoked(err)
		}
		body, err := proto.Marshal(&busv1.Revocation{User: r.User, TokenId: r.TokenID, Before: max(before, r.Before)})
		if err != nil {
			return fmt.Errorf("encode revocation: %w", err)
		}
		_, err = b.js.Publish(ctx, subject, body, jetstream.WithExpectLastSequencePerSubject(seq))
		if err == nil {
			return nil
		}
		if api, ok := errors.AsType[*jetstream.APIError](err); !ok || api.ErrorCode != errWrongLast {
			return notRevoked(err)
		}
	}
	return notRevoked(errors.New("others revoke the same all the time"))
}

// storedRevocation asks the stream's leader what is stored for a subject; the sequence
// 0 means nothing.
func (b *Bus) storedRevocation(ctx context.Context, subject string) (before int64, seq uint64, err error) {
	entry, err := b.leaderEntry(ctx, map[string]any{"last_by_subj": subject})
	if err != nil || entry == nil {
		return 0, 0, err
	}
	var stored busv1.Revocation
	if err := proto.Unmarshal(entry.Data, &stored); err != nil {
		return 0, entry.Seq, nil //nolint:nilerr // ours replaces it
	}
	return stored.GetBefore(), entry.Seq, nil
}

// revokedEntry is one message of the stream.
type revokedEntry struct {
	Seq  uint64 `json:"seq"`
	Data []byte `json:"data"`
}

// leaderEntry reads one message from the stream's leader; nil if there is none.
func (b *Bus) leaderEntry(ctx context.Context, query map[string]any) (*revokedEntry, error) {
	var r struct {
		apiResponse
		Message *revokedEntry `json:"message"`
	}
	if err := b.apiRequest(ctx, "STREAM.MSG.GET."+revokedStream, query, &r); err != nil {
		return nil, err
	}
	if r.Error != nil && r.Error.Code != 404 || r.Error != nil && r.Error.ErrCode == errStreamNotFound {
		return nil, errors.New(r.Error.Description)
	}
	return r.Message, nil
}

// notRevoked is the error of a revocation that may not be stored.
func notRevoked(cause error) *room.Error {
	return &room.Error{
		Kind: room.Unavailable, Reason: room.ReasonBusUnavailable, RetryAfter: time.Second, Err: cause,
		Msg: "the message bus is not available; the tokens are not revoked everywhere, revoke them again",
	}
}

// revokedSubject is where a revocation is stored: a user or an id may be of any text.
func revokedSubject(r room.Revocation) string {
	kind, text := "id.", r.TokenID
	if r.User != "" {
		kind, text = "user.", r.User
	}
	sum := sha256.Sum256([]byte(text))
	return revokedPrefix + kind + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// FollowRevocations makes the stream if need be, hands learn everything that is stored
// there and returns; from then on it hands over what is stored by whichever node,
// within a second of NATS being there, until the bus is closed. What it has handed over
// it may hand over again; learn may be called concurrently. It waits for NATS until ctx
// ends.
func (b *Bus) FollowRevocations(ctx context.Context, learn func([]room.Revocation)) error {
	r := b.revoked
	r.learn = learn
	if err := b.untilStream(ctx, revokedStream, func() error { return r.make(ctx) }); err != nil {
		return fmt.Errorf("stream %s: %w", revokedStream, err)
	}
	if _, err := b.live.Subscribe(revokedLive+">", r.hear); err != nil {
		return fmt.Errorf("subscribe to revocations: %w", err)
	}
	if err := b.live.FlushTimeout(writeTimeout); err != nil {
		b.log.Debug("flush revocations", "err", err) // sent again when NATS is back
	}
	for err := r.catchUp(ctx); err != nil; err = r.catchUp(ctx) {
		b.log.Warn("waiting for revocations", "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("read revocations: %w", err)
		case <-time.After(revokedEvery):
		}
	}
	b.wg.Go(r.run)
	return nil
}

// make makes the stream, if it is not there, and gives it the replicas that it lacks.
func (r *revocations) make(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	replicas := max(1, r.bus.cfg.Replicas)
	have, err := r.bus.js.Stream(ctx, revokedStream)
	switch {
	case err == nil && have.CachedInfo().Config.Replicas < replicas:
		config := have.CachedInfo().Config
		config.Replicas = replicas
		_, err = r.bus.js.UpdateStream(ctx, config)
		return err
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	}
	_, err = r.bus.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              revokedStream,
		Description:       "Roomcast: revoked tokens",
		Subjects:          []string{revokedPrefix + ">"},
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: 1,
		MaxAge:            RevokedLife,
		AllowDirect:       true,
		RePublish:         &jetstream.RePublish{Source: revokedPrefix + ">", Destination: revokedLive + ">"},
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil // another node was faster
	}
	return err
}

// run looks at the stream again and again.
func (r *revocations) run() {
	tick := time.NewTicker(revokedEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.poke:
		case <-r.bus.ctx.Done():
			return
		}
		if err := r.catchUp(r.bus.ctx); err != nil {
			r.bus.log.Debug("read revocations", "err", err)
		}
	}
}

// look has the stream looked at now.
func (r *revocations) look() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// silence returns for how long it is not known that everything was learned.
func (r *revocations) silence(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.IsZero() {
		return 0
	}
	return now.Sub(r.current)
}

// hear takes a revocation that was stored just now. It counts at once; whether others
// were lost before it its sequence tells.
func (r *revocations) hear(msg *nats.Msg) {
	revocation, seq, err := readRevocation(msg)
	if err != nil {
		r.bus.log.Warn("unreadable revocation", "err", err)
		return
	}
	r.learn([]room.Revocation{revocation})
	r.mu.Lock()
	next := seq == r.learned+1
	if next {
		r.learned = seq
	}
	r.mu.Unlock()
	if !next {
		r.look()
	}
}

// catchUp learns what it has not learned of what the stream holds now.
func (r *revocations) catchUp(ctx context.Context) error {
	asked := time.Now()
	last, err := r.last(ctx)
	if err != nil {
		return err
	}
	for {
		r.mu.Lock()
		from := r.learned + 1
		if from > last {
			r.current = asked
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		read, err := r.read(ctx, from)
		if err == nil && read == 0 {
			read, err = last, r.nothingFrom(ctx, from)
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.learned = max(r.learned, read)
		r.mu.Unlock()
	}
}

// last asks the stream's leader for the newest sequence. Of another stream than before
// nothing has been learned.
func (r *revocations) last(ctx context.Context) (uint64, error) {
	var info struct {
		apiResponse
		Created string `json:"created"`
		State   struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
		Cluster *struct {
			Leader string `json:"leader"`
		} `json:"cluster"`
	}
	r.mu.Lock()
	learned := r.learned // before the leader answers
	r.mu.Unlock()
	if err := r.bus.apiRequest(ctx, "STREAM.INFO."+revokedStream, nil, &info); err != nil {
		return 0, err
	}
	switch {
	case info.Error != nil && info.Error.ErrCode == errStreamNotFound:
		r.bus.log.Error("the stream of revoked tokens is gone, making an empty one; nodes that start know of none", "stream", revokedStream)
		return 0, r.make(ctx)
	case info.Error != nil:
		return 0, unavailable(errors.New(info.Error.Description))
	case info.Cluster != nil && info.Cluster.Leader == "":
		return 0, unavailable(errors.New("the stream has no leader"))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if info.Created != r.created || info.State.Last < learned {
		r.created, r.learned = info.Created, 0
	}
	return info.State.Last, nil
}

// read learns a batch from a sequence on and returns the last that it has; 0 if the
// replica that answered has none.
func (r *revocations) read(ctx context.Context, from uint64) (last uint64, err error) {
	list := make([]room.Revocation, 0, revokedBatch)
	query := directGetQuery{Seq: from, Subject: revokedPrefix + ">", Batch: revokedBatch, MaxBytes: readMaxBytes}
	err = r.bus.batchGet(ctx, revokedStream, query, func(msg *nats.Msg) error {
		revocation, seq, err := readRevocation(msg)
		if err != nil {
			r.bus.log.Warn("unreadable revocation", "err", err)
		} else {
			list = append(list, revocation)
		}
		last = max(last, seq)
		return nil
	})
	if len(list) > 0 {
		r.learn(list)
	}
	return last, err
}

// nothingFrom asks the leader whether nothing is stored from a sequence on. Else the
// replica that was read is behind.
func (r *revocations) nothingFrom(ctx context.Context, from uint64) error {
	entry, err := r.bus.leaderEntry(ctx, map[string]any{"seq": from, "next_by_subj": revokedPrefix + ">"})
	if err == nil && entry != nil {
		err = unavailable(fmt.Errorf("a replica does not have revocation %d yet", entry.Seq))
	}
	return err
}

// readRevocation reads a message of the stream, as it is stored or republished. The
// sequence counts also if the rest is an error.
func readRevocation(msg *nats.Msg) (r room.Revocation, seq uint64, err error) {
	if seq, err = strconv.ParseUint(headerValue(msg.Header, nats.JSSequence), 10, 64); err != nil {
		return r, 0, fmt.Errorf("sequence: %w", err)
	}
	stored, err := time.Parse(time.RFC3339Nano, headerValue(msg.Header, nats.JSTimeStamp))
	if err != nil {
		return r, seq, fmt.Errorf("time: %w", err)
	}
	var body busv1.Revocation
	if err := proto.Unmarshal(msg.Data, &body); err != nil {
		return r, seq, fmt.Errorf("body: %w", err)
	}
	return room.Revocation{
		User: body.GetUser(), TokenID: body.GetTokenId(), Before: body.GetBefore(), Until: stored.Add(RevokedLife),
	}, seq, nil
}
