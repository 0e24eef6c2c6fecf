package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// keepAll is a configuration that keeps every line of these tests.
const keepAll = "namespaces:\n  default:\n    history:\n      size: 100000\n"

// TestDelivery publishes a file of JSON lines to three subscribers on two nodes that
// share a NATS, all separate processes. What each prints must be the file, byte for
// byte. With the 100,000 lines:
//
//	go test ./test/e2e -run TestDelivery -v -count 1 -parallel 1 -args -lines 100000
func TestDelivery(t *testing.T) {
	t.Parallel()
	file := jsonLines(*lineCount)
	first, second := twoNodes(t)
	count := strconv.Itoa(*lineCount)
	subs := []*process{
		first.subscribe(t, "--count", count, "events"),
		second.subscribe(t, "--count", count, "events"),
		second.subscribe(t, "--count", count, "events"),
	}
	began := time.Now()
	publishFile(t, first, file)
	report(t, "published", began)
	for _, sub := range subs {
		checkOutput(t, sub, file)
	}
	report(t, "delivered to all", began)
}

// TestDeliveryToStoppedSubscriber stops one subscriber (SIGSTOP) in the middle for at
// least 5 s and until the other has everything. Both must print the file.
func TestDeliveryToStoppedSubscriber(t *testing.T) {
	t.Parallel()
	const atLeast = 5 * time.Second
	file := jsonLines(*lineCount)
	first, second := twoNodes(t)
	count := strconv.Itoa(*lineCount)
	slow, other := second.subscribe(t, "--count", count, "events"), second.subscribe(t, "--count", count, "events")
	begin, rest := split(file, *lineCount/2) // the rest comes when it has been stopped
	in, goOn := gated(begin, rest)
	pub := startCommand(t, in, built.roomcast, "pub", "--quiet", "--grpc-addr", first.GRPC, "events", "-")
	t.Cleanup(goOn)
	nodetest.Eventually(t, patience, "the first messages arrive", func() bool { return slow.output() != "" })
	stopped := time.Now()
	slow.signal(syscall.SIGSTOP)
	goOn()
	checkOutput(t, other, file)
	nodetest.Eventually(t, 2*atLeast, "5 s have passed", func() bool { return time.Since(stopped) >= atLeast })
	slow.signal(syscall.SIGCONT)
	resumed := time.Now()
	checkOutput(t, slow, file)
	report(t, "caught up", resumed)
	if code := pub.wait(deliveryDeadline()); code != 0 {
		t.Errorf("pub: exit code %d", code)
	}
}

func twoNodes(t testing.TB) (first, second *server) {
	t.Helper()
	_, nats := startNATS(t)
	config := write(t, "config.yaml", keepAll)
	args := []string{"--dev", "--nats-url", nats, "--config", config}
	return serve(t, args...), serve(t, args...)
}

// publishFile publishes each line and checks that each got an id.
func publishFile(t testing.TB, s *server, file []byte) {
	t.Helper()
	pub := startCommand(t, bytes.NewReader(file), built.roomcast, "pub", "--grpc-addr", s.GRPC, "events", "-")
	if code := pub.wait(deliveryDeadline()); code != 0 {
		t.Fatalf("pub: exit code %d", code)
	}
	if ids, want := strings.Count(pub.output(), "\n"), bytes.Count(file, []byte("\n")); ids != want {
		t.Errorf("pub printed %d ids for %d lines", ids, want)
	}
}

// deliveryDeadline grows with the file: 200 lines a second is a tenth of what two
// cores do.
func deliveryDeadline() time.Duration {
	return patience + time.Duration(*lineCount)*5*time.Millisecond
}

// checkOutput waits for a subscriber's end and compares what it printed.
func checkOutput(t testing.TB, sub *process, want []byte) {
	t.Helper()
	if code := sub.wait(deliveryDeadline()); code != 0 {
		t.Fatalf("sub: exit code %d", code)
	}
	got, err := os.ReadFile(sub.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if sum, wanted := digest(got), digest(want); sum != wanted {
		t.Errorf("sub printed %d bytes in %d lines with SHA-256 %s; the file has %d in %d with %s",
			len(got), bytes.Count(got, []byte("\n")), sum, len(want), bytes.Count(want, []byte("\n")), wanted)
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func report(t testing.TB, what string, began time.Time) {
	t.Helper()
	took := time.Since(began)
	t.Logf("%s: %d messages in %.2f s, %.0f/s", what, *lineCount, took.Seconds(), float64(*lineCount)/took.Seconds())
}

// jsonLines makes lines of 10 to 120 bytes, the same in every run: objects with
// scripts of one to four bytes a character, escapes, and spaces that must survive.
func jsonLines(n int) []byte {
	const seed = 20
	random := rand.New(rand.NewPCG(seed, seed))
	var alphabet []string // as JSON
	for _, letter := range "abcdefghij 0123456789\\/\t<>&äöüßéñАБВ中文字العربية🙂🚀\u2028\x00" {
		encoded, _ := json.Marshal(string(letter)) // a string always can be
		alphabet = append(alphabet, strings.Trim(string(encoded), `"`))
	}
	alphabet = append(alphabet, `\"`)
	var out bytes.Buffer
	for i := range n {
		line := `{"n": ` + strconv.Itoa(i)
		limit := 10 + random.IntN(111) - len(`"}`)
		if line += `,"t":"`; len(line) > limit {
			out.WriteString(line[:len(line)-len(`,"t":"`)] + "}\n")
			continue
		}
		for letter := ""; len(line)+len(letter) <= limit; letter = alphabet[random.IntN(len(alphabet))] {
			line += letter
		}
		out.WriteString(line + "\"}\n")
	}
	return out.Bytes()
}

func TestJSONLines(t *testing.T) {
	t.Parallel()
	shortest, longest := 1000, 0
	for line := range bytes.Lines(jsonLines(5000)) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if !json.Valid(line) {
			t.Fatalf("not JSON: %s", line)
		}
		shortest, longest = min(shortest, len(line)), max(longest, len(line))
	}
	if shortest < 8 || shortest > 12 || longest < 110 || longest > 120 {
		t.Errorf("lines have %d to %d bytes", shortest, longest)
	}
}
