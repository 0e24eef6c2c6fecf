package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// storyOf is a room "a" with the messages 1 to 6, which its log has, a room "b" with 7
// and 8, and a room "s" that keeps two and had 11 to 15. One socket, with these events
// after it has subscribed to "a" at 2.
func storyOf(events ...Event) *Story {
	const epoch = "e"
	s := &Story{Log: Log{
		Rooms: map[string][]Entry{"a": nil, "b": nil, "s": nil},
		Epoch: func(string) string { return epoch },
		Keeps: func(room string) int { return map[string]int{"a": 100, "b": 100, "s": 2}[room] },
	}}
	add := func(room string, seq int) {
		s.Log.Rooms[room] = append(s.Log.Rooms[room], Entry{at(seq), text(seq)})
		s.Publications = append(s.Publications, Publish{Room: room, Text: text(seq), ID: at(seq), Attempts: 1, Began: time.Duration(seq)})
	}
	for seq := 1; seq <= 6; seq++ {
		add("a", seq)
	}
	for seq := 7; seq <= 8; seq++ {
		add("b", seq)
	}
	for seq := 11; seq <= 15; seq++ {
		add("s", seq)
	}
	s.Log.Rooms["s"] = s.Log.Rooms["s"][2:]
	begin := []Event{{Kind: Connected}, {Kind: Asked, Room: "a"}, {At: 2, Kind: Subscribed, Room: "a", ID: at(2)}}
	s.Sockets = [][]Event{append(begin, events...)}
	return s
}

func at(seq int) string { return fmt.Sprintf("e.%d.c%d", seq, seq) }

func text(seq int) string { return fmt.Sprint("text ", seq) }

// messages are events of one room.
func messages(room string, seqs ...int) (events []Event) {
	for _, seq := range seqs {
		events = append(events, Event{At: 100, Kind: Message, Room: room, ID: at(seq), Text: text(seq)})
	}
	return events
}

func gap(room string, after int, reason string) Event {
	return Event{At: 100, Kind: Gap, Room: room, ID: at(after), Text: reason}
}

func subscribed(room, position string, at time.Duration) Event {
	return Event{At: at, Kind: Subscribed, Room: room, ID: position}
}

func TestCheckSockets(t *testing.T) {
	t.Parallel()
	again := []Event{{Kind: Closed}, {Kind: Connected}, {Kind: Asked, Room: "a", ID: at(4)}, subscribed("a", at(4), 50)}
	all := messages("a", 3, 4, 5, 6)
	away := []Event{subscribed("s", at(11), 11), {Kind: Closed}, {Kind: Connected}, subscribed("a", at(6), 50), subscribed("s", at(11), 100)}
	tests := map[string]struct {
		events []Event
		want   []What
	}{
		"all":                          {all, nil},
		"resumed":                      {slices.Concat(messages("a", 3, 4), again, messages("a", 5, 6)), nil},
		"one is missing":               {messages("a", 3, 5, 6), []What{SilentGap}},
		"one is missing at resume":     {slices.Concat(messages("a", 3, 4), again, messages("a", 6)), []What{SilentGap}},
		"nothing came":                 {nil, []What{LostTail}},
		"the last is missing":          {messages("a", 3, 4, 5), []What{LostTail}},
		"the last is missing, resumed": {slices.Concat(messages("a", 3, 4), again, messages("a", 5)), []What{LostTail}},
		"twice":                        {messages("a", 3, 3, 4, 5, 6), []What{Twice}},
		"twice at resume":              {slices.Concat(messages("a", 3, 4), again, messages("a", 4, 5, 6)), []What{Twice}},
		"swapped":                      {messages("a", 3, 5, 4, 6), []What{SilentGap, Reordered}},
		"from before the start":        {messages("a", 2, 3, 4, 5, 6), []What{Reordered}},
		"of a room that is not open":   {slices.Concat(all, messages("b", 7)), []What{WrongRoom, NeverFinished}},
		"of another room":              {slices.Concat(messages("a", 3, 7), messages("a", 4, 5, 6)), []What{WrongRoom}},
		"of nobody":                    {slices.Concat(messages("a", 3, 99), messages("a", 4, 5, 6)), []What{NotInLog}},
		"another check": {
			slices.Concat(messages("a", 3), []Event{{Kind: Message, Room: "a", ID: "e.4.cx", Text: text(4)}}, messages("a", 4, 5, 6)),
			[]What{NotInLog},
		},
		"another body": {
			slices.Concat(messages("a", 3), []Event{{Kind: Message, Room: "a", ID: at(4), Text: text(5)}}, messages("a", 5, 6)),
			[]What{NotInLog},
		},
		"after unsubscribed":               {slices.Concat(messages("a", 3, 4), []Event{{Kind: Unsubscribed, Room: "a"}}, messages("a", 5, 6)), []What{WrongRoom, WrongRoom, NeverFinished}},
		"from now on is too late":          {slices.Concat(all, []Event{subscribed("b", at(7), 5)}, messages("b", 8)), []What{LateStart}},
		"truncated, but the log has it":    {slices.Concat(messages("a", 3), []Event{gap("a", 3, "TRUNCATED")}, messages("a", 5, 6)), []What{BadGap}},
		"reset, but it is the same log":    {slices.Concat(messages("a", 3), []Event{gap("a", 3, "RESET")}, messages("a", 6)), []What{BadGap}},
		"overflow of a stored room":        {slices.Concat(messages("a", 3), []Event{gap("a", 3, "OVERFLOW")}, messages("a", 4, 5, 6)), []What{BadGap}},
		"truncated, evicted":               {slices.Concat(all, away, []Event{gap("s", 11, "TRUNCATED")}, messages("s", 13, 14, 15)), nil},
		"truncated, then one is missing":   {slices.Concat(all, away, []Event{gap("s", 11, "TRUNCATED")}, messages("s", 13, 15)), []What{SilentGap}},
		"evicted, and nothing is told":     {slices.Concat(all, away, messages("s", 13, 14, 15)), []What{SilentGap}},
		"truncated, then nothing":          {slices.Concat(all, away, []Event{gap("s", 11, "TRUNCATED")}), []What{LostTail}},
		"truncated before it was evicted":  {slices.Concat(all, away[:4], []Event{subscribed("s", at(12), 13), {At: 13, Kind: Gap, Room: "s", ID: at(12), Text: "TRUNCATED"}}, messages("s", 13, 14, 15)), []What{BadGap}},
		"one that the log no longer holds": {slices.Concat(all, away[:1], messages("s", 12, 13, 14, 15)), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkFaults(t, storyOf(test.events...), test.want)
		})
	}
}

// A message that has left a short history was stored twice, because its id was forgotten
// with it. Only who tried again can have done that, and only there.
func TestCheckForgottenID(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		room     string
		attempts int
		want     []What
	}{
		"sent again":                {"s", 2, nil},
		"sent once":                 {"s", 1, []What{NotInLog}},
		"of a room that keeps more": {"b", 2, []What{NotInLog}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storyOf(messages("a", 3, 4, 5, 6)...)
			last := s.Log.Rooms[test.room][len(s.Log.Rooms[test.room])-1]
			for i := range s.Publications {
				if s.Publications[i].ID == last.ID {
					s.Publications[i].Attempts = test.attempts
				}
			}
			events := []Event{subscribed(test.room, "e.0.", 1), {At: 100, Kind: Message, Room: test.room, ID: "e.6.other", Text: last.Text}}
			first := map[string][]int{"s": {11, 12, 13, 14, 15}, "b": {7, 8}}[test.room]
			s.Sockets[0] = slices.Concat(s.Sockets[0], events, messages(test.room, first...))
			checkFaults(t, s, test.want)
		})
	}
}

func TestCheckPublications(t *testing.T) {
	t.Parallel()
	all := messages("a", 3, 4, 5, 6)
	tests := map[string]struct {
		change func(*Story)
		want   []What
	}{
		"never acknowledged": {func(s *Story) { s.Publications[6].ID = "" }, []What{NotAcked}},
		"lost":               {func(s *Story) { s.Log.Rooms["b"] = s.Log.Rooms["b"][1:] }, []What{AckedLost}},
		"stored twice": {func(s *Story) {
			s.Log.Rooms["b"] = append(s.Log.Rooms["b"], Entry{at(9), text(8)})
		}, []What{StoredTwice}},
		"acknowledged as another": {func(s *Story) { s.Publications[6].ID = at(9) }, []What{AckedWrong}},
		"stored by nobody": {func(s *Story) {
			s.Log.Rooms["b"] = append(s.Log.Rooms["b"], Entry{at(9), text(9)})
		}, []What{NotPublished}},
		"lost in the middle of a short history": {func(s *Story) {
			s.Log.Rooms["s"] = slices.Delete(s.Log.Rooms["s"], 1, 2)
		}, []What{AckedLost, AckedLost, AckedLost}}, // the log has not all that it keeps, so it pushed none out
		"a batch out of order": {func(s *Story) {
			s.Publications[6].Call, s.Publications[7].Call = 1, 1
			s.Publications[6], s.Publications[7] = s.Publications[7], s.Publications[6]
		}, []What{BatchReorder}},
		"two batches": {func(s *Story) {
			s.Publications[6].Call, s.Publications[7].Call = 1, 2
			s.Publications[6], s.Publications[7] = s.Publications[7], s.Publications[6]
		}, nil},
		"a batch that repeats an older one": {func(s *Story) {
			s.Publications[6].Call, s.Publications[7].Call, s.Publications[6].Duplicate = 1, 1, true
			s.Publications[6], s.Publications[7] = s.Publications[7], s.Publications[6]
		}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storyOf(all...)
			test.change(s)
			checkFaults(t, s, test.want)
		})
	}
}

func checkFaults(t *testing.T, s *Story, want []What) {
	t.Helper()
	var got []What
	faults := Check(s)
	for _, f := range faults {
		got = append(got, f.What)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the checker finds (-want +got):\n%s%+v", diff, faults)
	}
}

func TestScheduleIsRepeatable(t *testing.T) {
	t.Parallel()
	one, two, other := Schedule(7, time.Minute), Schedule(7, time.Minute), Schedule(8, time.Minute)
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("the same seed (-first +second):\n%s", diff)
	}
	if cmp.Equal(one, other) {
		t.Error("two seeds have the same schedule")
	}
	for seed := range uint64(50) {
		for _, kind := range Faults() {
			has := slices.ContainsFunc(Schedule(seed, faultTime), func(s Step) bool { return s.Fault == kind })
			if !has && (kind != KillAll || seed%2 == 0) {
				t.Errorf("seed %d has no %s", seed, kind)
			}
		}
	}
}
