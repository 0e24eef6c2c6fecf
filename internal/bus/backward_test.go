package bus_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/roomcast/roomcast/internal/nodetest"
	"github.com/roomcast/roomcast/internal/room"
)

// back pages through a room from a position to its beginning.
func back(t *testing.T, b testBus, name room.Name, before room.Position, limit int) (got []string, pages int) {
	t.Helper()
	for {
		page, err := b.ReadBack(t.Context(), name, before, limit)
		if err != nil || page.Gap != "" || len(page.Messages) > limit {
			t.Fatalf("%d messages, gap %q, %v", len(page.Messages), page.Gap, err)
		}
		pages++
		for _, m := range page.Messages {
			got = append(got, string(m.Payload.Bytes))
		}
		if !page.More {
			return got, pages
		}
		before = page.Last
	}
}

// countdown is what a room of so many numbered messages shows from one backward.
func countdown(from, to int) (all []string) {
	for i := from - 1; i >= to; i-- {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestReadBack(t *testing.T) {
	t.Parallel()
	b := open(t, nodetest.StartNATS(t).URL)
	watermark := headOf(t, b, "empty")
	var ids []string
	for i := range 20 {
		ids = append(ids, publish(t, b, "a", fmt.Sprint(i)))
		publish(t, b, "b", "between")
		publish(t, b, "small:a", fmt.Sprint(i)) // the log keeps 3 and the anchor
		publish(t, b, "purged", "gone")
	}
	purge(t, b, "purged")
	publish(t, b, "purged", "1")
	publish(t, b, "purged", "0")
	newest := room.Position{}
	tests := map[string]struct {
		room   room.Name
		before room.Position
		limit  int
		want   []string
		pages  int
	}{
		"all":                    {"a", newest, 100, countdown(20, 0), 1},
		"in pages":               {"a", newest, 7, countdown(20, 0), 3},
		"in full pages":          {"a", newest, 10, countdown(20, 0), 2},
		"one by one":             {"a", newest, 1, countdown(20, 0), 20},
		"before a message":       {"a", parse(t, ids[12]), 5, countdown(12, 0), 3},
		"before the oldest":      {"a", parse(t, ids[0]), 5, nil, 1},
		"before another room's":  {"b", parse(t, ids[2]), 5, []string{"between", "between"}, 1},
		"before a watermark":     {"a", watermark, 5, nil, 1},
		"without the anchor":     {"small:a", newest, 10, countdown(20, 17), 1},
		"without it, one by one": {"small:a", newest, 1, countdown(20, 17), 3},
		"after a purge":          {"purged", newest, 10, []string{"0", "1"}, 1},
		"empty room":             {"empty", newest, 10, nil, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, pages := back(t, b, test.room, test.before, test.limit)
			if !slices.Equal(got, test.want) || pages != test.pages {
				t.Errorf("got %v in %d pages, want %v in %d", got, pages, test.want, test.pages)
			}
		})
	}
	foreign := map[string]func(*room.Position){
		"other epoch": func(p *room.Position) { p.Epoch = "zzz" },
		"other check": func(p *room.Position) { p.Check++ },
		"above":       func(p *room.Position) { p.Seq = 1000 },
	}
	for name, change := range foreign {
		p := parse(t, ids[4])
		change(&p)
		if page, err := b.ReadBack(t.Context(), "a", p, 5); err != nil || page.Gap != room.Reset || len(page.Messages) != 0 {
			t.Errorf("%s: gap %q with %d messages, %v; want RESET", name, page.Gap, len(page.Messages), err)
		}
	}
}

// A page does not cost a read of all that is before it, wherever the room's messages
// are in the log: one burst long ago, or one message in hundreds of others.
func TestReadBackReadsLittle(t *testing.T) {
	t.Parallel()
	b := open(t, nodetest.StartNATS(t).URL)
	sequence := b.NewSequence()
	results := make(chan error, 2000)
	send := func(name room.Name, body string) {
		sequence.Publish(t.Context(), text(name, body), func(_ room.Ack, err error) { results <- err })
	}
	for i := range 500 {
		send("burst", fmt.Sprint(i))
		send("other", "x")
		if i%25 == 0 {
			send("rare", fmt.Sprint(i/25))
		}
	}
	for range 450 {
		send("other", "x")
	}
	for range 1470 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[room.Name][]string{"burst": countdown(500, 490), "rare": countdown(20, 10)} {
		reads, messages := testutil.ToFloat64(b.metrics.LogReads), testutil.ToFloat64(b.metrics.LogMessages)
		page, err := b.ReadBack(t.Context(), name, room.Position{}, 10)
		if err != nil || !page.More {
			t.Fatalf("more %v, %v", page.More, err)
		}
		var got []string
		for _, m := range page.Messages {
			got = append(got, string(m.Payload.Bytes))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		reads, messages = testutil.ToFloat64(b.metrics.LogReads)-reads, testutil.ToFloat64(b.metrics.LogMessages)-messages
		t.Logf("%s: %v reads, %v messages", name, reads, messages)
		if reads > 12 || messages > 300 {
			t.Errorf("%s: %v reads and %v messages for 10", name, reads, messages)
		}
	}
}
