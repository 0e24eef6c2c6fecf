package embednats

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// childDir tells a child process of the tests which directory to use, childCount how
// many messages to publish.
const (
	childDir   = "ROOMCAST_TEST_CHILD_DIR"
	childCount = "ROOMCAST_TEST_CHILD_COUNT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child is another process on the same directory: it publishes, says so, and then
// holds the lock until its standard input ends or it is killed.
func child(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Start(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	defer s.Shutdown()
	nc, err := nats.Connect("", s.ConnOption())
	if err != nil {
		return err
	}
	defer nc.Close()
	count, err := strconv.Atoi(os.Getenv(childCount))
	if err != nil {
		return err
	}
	if err := publish(ctx, nc, count); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// publish stores messages in the tests' stream, each acknowledged.
func publish(ctx context.Context, nc *nats.Conn, count int) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: "TEST", Subjects: []string{"test.>"}, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return err
	}
	for i := range count {
		if _, err := js.Publish(ctx, "test.a", []byte(strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}
