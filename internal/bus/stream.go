package bus

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
	"github.com/roomcast/roomcast/internal/room"
)

// Stream metadata.
const (
	metaEpoch = "rc.epoch" // the log's identity, written at creation only
	metaFloor = "rc.floor" // the last sequence when the limits last changed
)

// duplicateWindow is how long the log knows a message id.
const duplicateWindow = 2 * time.Minute

// JetStream's codes for a stream that is not there, and for one whose replicas find no
// place: too few servers are in the cluster, or not yet.
const (
	errStreamNotFound = 10059
	errNoPeers        = 10005
)

// apiTimeout bounds one request to JetStream's API.
const apiTimeout = 5 * time.Second

// logStream is one namespace's log. What it is asked at a time is bounded for each: one
// that hangs holds up its own rooms only.
type logStream struct {
	// static
	name   string
	policy room.Policy
	fills  chan struct{} // bounds holes that are being filled
	reads  chan struct{} // bounds pages that are being read for sockets and callers

	mu     sync.Mutex
	epoch  string // guarded by mu: the newest known
	making bool   // guarded by mu: it is being made again
	leader string // guarded by mu: of a cluster, when last asked; empty if there is none
	canary canary // guarded by mu

	proof   *proof // guarded by mu: that nobody has sent yet; nil if nobody asks where the log ends
	proving bool   // guarded by mu: proveEnds runs

	seen     atomic.Uint64 // the highest sequence of the epoch that is known to have been stored
	renewing atomic.Bool   // it is being given another epoch

	anchored string // of the newest anchor known; owned by keepAnchors once the bus is open

	joins *joiner
	audit *audit
}

func (s *logStream) knownEpoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// logInfo is a stream's state at one moment, as its leader knows it.
type logInfo struct {
	epoch       string
	first, last uint64 // sequences
	floor       uint64
	size        uint64 // messages that it keeps of a room, without the anchor
	leader      string // the server that leads it; empty if there is no cluster
	moment      uint32 // of the message at last
}

// end is where a room stands that has no message.
func (i logInfo) end() room.Position {
	return room.Position{Epoch: i.epoch, Seq: i.last, Moment: i.moment}
}

// momentOf are the bits of a message's store time that tell its place in one past of a
// log from the same place in another. 0 is no message.
func momentOf(stored time.Time) uint32 {
	return max(1, uint32(stored.UnixNano())) //nolint:gosec // the low bits are meant
}

// ensureStream makes the namespace's stream, or applies the policy to the one that
// is there. A smaller history drops messages and needs AllowShrink.
func (b *Bus) ensureStream(ctx context.Context, policy room.Policy) (*logStream, error) {
	s := &logStream{
		name: streamName(policy.Namespace), policy: policy,
		fills: make(chan struct{}, 64), reads: make(chan struct{}, 32),
	}
	s.joins, s.audit = &joiner{bus: b, stream: s}, newAudit(b, s)
	want := b.streamConfig(s)
	if err := b.untilStream(ctx, s.name, func() error { return b.tryEnsure(ctx, s, want) }); err != nil {
		return nil, fmt.Errorf("log of namespace %q (stream %s): %w", policy.Namespace, s.name, err)
	}
	return s, nil
}

// untilStream tries to make a stream until JetStream is there, or ctx ends.
func (b *Bus) untilStream(ctx context.Context, name string, try func() error) error {
	for attempt := 0; ; attempt++ {
		err := try()
		switch {
		case err == nil:
			return nil
		case !retryEnsure(err), ctx.Err() != nil:
			return err
		case attempt%10 == 0:
			b.log.Warn("waiting for jetstream", "stream", name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// retryEnsure reports whether a cluster that is still forming may cause err, or a log
// that another node is just making: its name is taken before it is there.
func retryEnsure(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 || api.ErrorCode == errStreamNotFound || api.ErrorCode == errNoPeers
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

func (b *Bus) tryEnsure(ctx context.Context, s *logStream, want jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	have, err := b.js.Stream(ctx, s.name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		want.Metadata = map[string]string{metaEpoch: newEpoch(), metaFloor: "0"}
		have, err = b.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			have, err = b.js.Stream(ctx, s.name) // another node was faster
		} else if err == nil {
			b.log.Info("log created", "stream", s.name, "epoch", want.Metadata[metaEpoch])
		}
	}
	if err != nil {
		return err
	}
	info := have.CachedInfo()
	epoch := info.Config.Metadata[metaEpoch]
	if epoch == "" {
		return fmt.Errorf("it has no %s metadata: it was not made by roomcast", metaEpoch)
	}
	if s.knownEpoch() == "" {
		s.mu.Lock()
		s.epoch = epoch
		if info.Cluster != nil && info.Cluster.Name != "" {
			s.leader = info.Cluster.Leader
		}
		s.mu.Unlock()
	}
	return b.applyLimits(ctx, s, want, info)
}

// makeAgain makes a stream that is gone: NATS came back empty. The new log has
// another epoch, so every room of it is told RESET.
func (b *Bus) makeAgain(s *logStream) {
	s.mu.Lock()
	busy := s.making
	s.making = true
	s.mu.Unlock()
	if busy || b.ctx.Err() != nil {
		return
	}
	b.log.Error("the log is gone, making an empty one; every subscriber of the namespace gets RESET",
		"stream", s.name, "namespace", s.policy.Namespace)
	b.spawn(func() {
		err := b.tryEnsure(b.ctx, s, b.streamConfig(s))
		s.mu.Lock()
		s.making = false
		s.mu.Unlock()
		if err != nil {
			b.log.Error("make log", "stream", s.name, "err", err)
			return
		}
		if _, err := b.streamInfo(b.ctx, s); err != nil { // notes the epoch
			b.log.Debug("stream info", "stream", s.name, "err", err)
		}
	})
}

// applyLimits updates a stream whose limits are not the policy's, or that has fewer
// replicas than configured.
func (b *Bus) applyLimits(ctx context.Context, s *logStream, want jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	have := info.Config
	changes := limitChanges(have, want)
	fewer := have.Replicas < want.Replicas
	if len(changes) == 0 && !fewer {
		return nil
	}
	shrinks := want.MaxMsgsPerSubject < have.MaxMsgsPerSubject || want.MaxAge < have.MaxAge || want.MaxBytes < have.MaxBytes
	if shrinks && !b.cfg.AllowShrink && !b.isEmpty(ctx, s) {
		return fmt.Errorf("the configured history is smaller than the log's (%s) and would drop messages; start with --allow-shrink to accept it",
			strings.Join(changes, ", "))
	}
	have.MaxMsgsPerSubject, have.MaxAge, have.MaxBytes, have.MaxMsgSize = want.MaxMsgsPerSubject, want.MaxAge, want.MaxBytes, want.MaxMsgSize
	if len(changes) > 0 {
		have.Metadata = maps.Clone(have.Metadata)
		have.Metadata[metaFloor] = strconv.FormatUint(info.State.LastSeq, 10)
	}
	if fewer { // more than configured stay: an operator may have added them by hand
		changes = append(changes, fmt.Sprintf("replicas %d to %d", have.Replicas, want.Replicas))
		have.Replicas = want.Replicas
	}
	if _, err := b.js.UpdateStream(ctx, have); err != nil {
		return err
	}
	b.log.Info("log limits changed", "stream", s.name, "changes", strings.Join(changes, ", "))
	return nil
}

// isEmpty reports whether no room has a message in the log. What nodes store there for
// themselves does not count.
func (b *Bus) isEmpty(ctx context.Context, s *logStream) bool {
	rooms := pubPrefix + s.policy.Namespace + ".*.*"
	first, err := b.leaderPosition(ctx, s, map[string]any{"seq": 1, "next_by_subj": rooms})
	return err == nil && first.IsZero()
}

func limitChanges(have, want jetstream.StreamConfig) []string {
	var changes []string
	add := func(setting string, from, to any) {
		if from != to {
			changes = append(changes, fmt.Sprintf("%s %v to %v", setting, from, to))
		}
	}
	add("history.size", have.MaxMsgsPerSubject-1, want.MaxMsgsPerSubject-1)
	add("history.ttl", have.MaxAge, want.MaxAge)
	add("history.max_bytes", have.MaxBytes, want.MaxBytes)
	add("max message size", have.MaxMsgSize, want.MaxMsgSize)
	return changes
}

func (b *Bus) streamConfig(s *logStream) jetstream.StreamConfig {
	source := pubPrefix + s.policy.Namespace + ".>"
	return jetstream.StreamConfig{
		Name:              s.name,
		Description:       "Roomcast: the log of namespace " + s.policy.Namespace,
		Subjects:          []string{source},
		Storage:           jetstream.FileStorage, // memory storage walks every message for a replay
		Replicas:          max(1, b.cfg.Replicas),
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: int64(s.policy.History.Size) + 1, // one more: the anchor that proves the oldest position
		MaxAge:            s.policy.History.TTL,
		MaxBytes:          s.policy.History.MaxBytes,
		MaxMsgSize:        int32(room.MaxMaxPayload + 8<<10),
		Duplicates:        duplicateWindow,
		AllowDirect:       true,
		RePublish:         &jetstream.RePublish{Source: source, Destination: livePrefix + ">"},
	}
}

// newEpoch returns a log's identity: 40 random bits in 8 letters and digits.
func newEpoch() string {
	var raw [5]byte
	rand.Read(raw[:]) // never fails since Go 1.24
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}

// streamInfo asks the stream's leader for its state. Without a leader it answers an
// error of kind Unavailable: with the quorum lost, a follower answers too, but what
// it knows proves nothing.
func (b *Bus) streamInfo(ctx context.Context, s *logStream) (logInfo, error) {
	var r struct {
		apiResponse
		Config struct {
			Metadata  map[string]string `json:"metadata"`
			MaxPerSub uint64            `json:"max_msgs_per_subject"`
		} `json:"config"`
		State struct {
			First    uint64    `json:"first_seq"`
			Last     uint64    `json:"last_seq"`
			LastTime time.Time `json:"last_ts"`
		} `json:"state"`
		Cluster *struct {
			Name   string `json:"name"` // empty: a server that is alone names itself as the leader
			Leader string `json:"leader"`
		} `json:"cluster"`
	}
	s.mu.Lock()
	epoch, seen := s.epoch, s.seen.Load() // before the leader answers
	s.mu.Unlock()
	if err := b.apiRequest(ctx, "STREAM.INFO."+s.name, nil, &r); err != nil {
		return logInfo{}, err
	}
	if r.Error != nil {
		if r.Error.ErrCode == errStreamNotFound {
			b.makeAgain(s)
		}
		return logInfo{}, unavailable(fmt.Errorf("stream info: %s", r.Error.Description))
	}
	if r.Cluster != nil && r.Cluster.Leader == "" {
		return logInfo{}, unavailable(errors.New("the stream has no leader"))
	}
	info := logInfo{epoch: r.Config.Metadata[metaEpoch], first: r.State.First, last: r.State.Last, size: max(1, r.Config.MaxPerSub) - 1}
	if info.epoch == "" {
		return logInfo{}, unavailable(fmt.Errorf("stream %s has no %s metadata: it was not made by roomcast", s.name, metaEpoch))
	}
	if r.State.Last > 0 {
		info.moment = momentOf(r.State.LastTime)
	}
	if r.Cluster != nil && r.Cluster.Name != "" {
		info.leader = r.Cluster.Leader
	}
	info.floor, _ = strconv.ParseUint(r.Config.Metadata[metaFloor], 10, 64)
	if !b.noteEpoch(s, info, epoch) {
		return logInfo{}, unavailable(errors.New("the stream was replaced meanwhile"))
	}
	if info.epoch == epoch && info.last < seen {
		b.renew(s, info, seen)
	}
	b.noteLeader(s, info)
	return info, nil
}

// clustered reports whether the stream was in a cluster when last asked.
func (s *logStream) clustered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leader != ""
}

// noteEpoch tells every room of a log that has become another one. It reports false for
// an answer that knows only the epoch of before it was asked for, which another one has
// followed since.
func (b *Bus) noteEpoch(s *logStream, info logInfo, before string) bool {
	s.mu.Lock()
	changed := info.epoch != s.epoch
	if changed && info.epoch == before {
		s.mu.Unlock()
		return false
	}
	s.epoch = info.epoch
	if changed {
		s.seen.Store(info.last)
	}
	s.mu.Unlock()
	if !changed {
		s.sawSeq(info.last)
		return true
	}
	b.log.Error("the log was replaced by another; its rooms are told RESET", "stream", s.name, "epoch", info.epoch)
	for _, sh := range b.shards {
		sh.post(func(sh *shard) { sh.resetStream(s, info) })
	}
	return true
}

// leaderPosition asks the stream's leader for the position of one message, such as
// the last of a subject; zero if there is none. An entry that is no record of ours has
// a watermark's position.
func (b *Bus) leaderPosition(ctx context.Context, s *logStream, query map[string]any) (room.Position, error) {
	msg, err := b.leaderMessage(ctx, s, query)
	if msg == nil {
		return room.Position{}, err
	}
	return msg.position(s), nil
}

// storedMessage is a message as JetStream's API tells it.
type storedMessage struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

func (m *storedMessage) position(s *logStream) room.Position {
	pos := room.Position{Epoch: s.knownEpoch(), Seq: m.Seq, Moment: momentOf(m.Time)}
	var record busv1.Record
	if err := proto.Unmarshal(m.Data, &record); err == nil && record.GetCheck() != 0 {
		pos.Check, pos.Moment = record.GetCheck(), 0
	}
	return pos
}

// leaderMessage asks the stream's leader for one message; nil if there is none.
func (b *Bus) leaderMessage(ctx context.Context, s *logStream, query map[string]any) (*storedMessage, error) {
	var r struct {
		apiResponse
		Message *storedMessage `json:"message"`
	}
	if err := b.apiRequest(ctx, "STREAM.MSG.GET."+s.name, query, &r); err != nil {
		return nil, err
	}
	if r.Error != nil {
		if r.Error.Code == 404 {
			return nil, nil //nolint:nilnil // there is none
		}
		return nil, unavailable(fmt.Errorf("read log: %s", r.Error.Description))
	}
	if r.Message == nil {
		return nil, unavailable(errors.New("read log: an answer without a message"))
	}
	return r.Message, nil
}

// headOf asks the leader where a room stands: at its last message, or at the
// stream's end if it has none.
func (b *Bus) headOf(ctx context.Context, l roomLog) (room.Position, error) {
	info, err := b.streamInfo(ctx, l.stream)
	if err != nil {
		return room.Position{}, err
	}
	last, err := b.leaderPosition(ctx, l.stream, map[string]any{"last_by_subj": l.subject})
	if err != nil || !last.IsZero() {
		return last, err
	}
	return info.end(), nil
}

// apiResponse is what every answer of JetStream's API may hold.
type apiResponse struct {
	Error *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// apiRequest sends one JSON request to JetStream's API and decodes the answer.
func (b *Bus) apiRequest(ctx context.Context, endpoint string, query, answer any) error {
	var body []byte
	if query != nil {
		var err error
		if body, err = json.Marshal(query); err != nil {
			return fmt.Errorf("jetstream request: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg, err := b.ctl.RequestWithContext(ctx, "$JS.API."+endpoint, body)
	if err != nil {
		return unavailable(err)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("jetstream answer: %w", err)
	}
	return nil
}

// unavailable is the error for a bus that is away.
func unavailable(cause error) *room.Error {
	return &room.Error{
		Kind:       room.Unavailable,
		Reason:     room.ReasonBusUnavailable,
		Msg:        "the message bus is not available, try again with the same message id",
		RetryAfter: time.Second,
		Err:        cause,
	}
}

// redactURL hides the user part of NATS URLs.
func redactURL(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		if u, err := url.Parse(strings.TrimSpace(part)); err == nil {
			parts[i] = u.Redacted()
		}
	}
	return strings.Join(parts, ",")
}
