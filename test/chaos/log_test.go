package chaos

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

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
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	epochs := make(map[string]string)
	log := Log{Rooms: make(map[string][]Entry), Epoch: func(room string) string { return epochs[streamOf(room)] }, Keeps: keeps}
	for _, name := range streams() {
		if epochs[name], err = readStream(ctx, js, name, log.Rooms); err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
	}
	return log
}

// readStream adds the rooms of one log.
func readStream(ctx context.Context, js jetstream.JetStream, name string, rooms map[string][]Entry) (epoch string, err error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return "", err
	}
	info := s.CachedInfo()
	epoch, last := info.Config.Metadata["rc.epoch"], info.State.LastSeq // each node's canary is in it at least
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return "", err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return "", err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return "", err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return "", err
		}
		seq := meta.Sequence.Stream
		if !strings.Contains(msg.Subject(), "~") {
			var record busv1.Record
			if err := proto.Unmarshal(msg.Data(), &record); err != nil {
				return "", fmt.Errorf("%s: %w", msg.Subject(), err)
			}
			id := fmt.Sprintf("%s.%d.%s", epoch, seq, strconv.FormatUint(uint64(record.GetCheck()), 36))
			rooms[record.GetRoom()] = append(rooms[record.GetRoom()], Entry{id, record.GetText()})
		}
		if seq >= last {
			return epoch, nil
		}
	}
}
