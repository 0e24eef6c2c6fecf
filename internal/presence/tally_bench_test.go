package presence

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	busv1 "github.com/roomcast/roomcast/gen/roomcast/bus/v1"
)

// BenchmarkTally is what counting a room costs beside looking at its members: three nodes
// with 10,000 users each tell them to one.
func BenchmarkTally(b *testing.B) {
	var users [3][]string
	for i := range 30_000 {
		users[i%3] = append(users[i%3], fmt.Sprint("user ", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		var all tally
		for _, users := range users {
			var t tally
			for _, user := range users {
				t.add(user)
			}
			t.parts(func(c *busv1.Count) {
				body, err := proto.Marshal(c)
				if err != nil {
					b.Fatal(err)
				}
				var part busv1.Count
				if err := proto.Unmarshal(body, &part); err != nil {
					b.Fatal(err)
				}
				all.merge(&part)
			})
		}
		if n := all.distinct(); n != 30_000 {
			b.Fatal(n)
		}
	}
}
