package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
)

// readLog reads the logs with nats.go alone. What nodes store there for themselves is
// left out: its subjects have a "~".
func readLog(t testing.TB, nc *nats.Conn) Log {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	epochs := make(map[string]string)
	log := Log{Rooms: make(map[string][]Entry), Epoch: func(room string) string { return epochs[streamOf(room)] }, Keeps: keeps}
	for _, name := range streams() {
		var err error
		for err = errors.New("not read"); err != nil; {
			if epochs[name], err = readStream(ctx, nc, name, log.Rooms); ctx.Err() != nil {
				t.Fatalf("read %s: %v", name, err)
			}
			if err != nil { // it may have no leader just now
				pause(ctx, 100*time.Millisecond)
			}
		}
	}
	return log
}

// readStream adds the rooms of one log. Its leader answers for each message: consumers
// and Direct Get are served by any replica. Each of a few readers has a part of the log.
func readStream(ctx context.Context, nc *nats.Conn, name string, rooms map[string][]Entry) (epoch string, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return "", err
	}
	s, err := js.Stream(ctx, name)
	if err != nil {
		return "", err
	}
	info := s.CachedInfo()
	epoch = info.Config.Metadata["rc.epoch"]
	const readers = 8
	first, end := info.State.FirstSeq, info.State.LastSeq+1
	bound := func(i uint64) uint64 { return first + (end-first)*i/readers }
	var parts [readers][]storedMessage
	var failed [readers]error
	var wg sync.WaitGroup
	for i := range uint64(readers) {
		wg.Go(func() { parts[i], failed[i] = readPart(ctx, nc, name, bound(i), bound(i+1)) })
	}
	wg.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		return "", err
	}
	found := make(map[string][]Entry)
	for _, msg := range slices.Concat(parts[:]...) {
		if strings.Contains(msg.Subject, "~") {
			continue
		}
		var record busv1.Record
		if err := proto.Unmarshal(msg.Data, &record); err != nil {
			return "", fmt.Errorf("%s: %w", msg.Subject, err)
		}
		id := fmt.Sprintf("%s.%d.%s", epoch, msg.Seq, strconv.FormatUint(uint64(record.GetCheck()), 36))
		found[record.GetRoom()] = append(found[record.GetRoom()], Entry{id, record.GetText()})
	}
	maps.Copy(rooms, found)
	return epoch, nil
}

// readPart reads the messages from first up to end, which is at most one after the last.
func readPart(ctx context.Context, nc *nats.Conn, stream string, first, end uint64) (all []storedMessage, err error) {
	for seq := first; seq < end; {
		msg, err := readMessage(ctx, nc, stream, seq)
		if err != nil {
			return nil, err
		}
		if seq = msg.Seq + 1; seq <= end {
			all = append(all, msg)
		}
	}
	return all, nil
}

// storedMessage is a message as JetStream's API tells it.
type storedMessage struct {
	Subject string
	Seq     uint64
	Data    []byte
}

// readMessage reads the first message from a sequence on.
func readMessage(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (storedMessage, error) {
	query := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":"rc.pub.>"}`, seq)
	answer, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, query)
	if err != nil {
		return storedMessage{}, err
	}
	var r struct {
		Message storedMessage
		Error   *struct{ Description string }
	}
	if err := json.Unmarshal(answer.Data, &r); err != nil {
		return storedMessage{}, err
	}
	if r.Error != nil {
		return storedMessage{}, fmt.Errorf("sequence %d: %s", seq, r.Error.Description)
	}
	return r.Message, nil
}
