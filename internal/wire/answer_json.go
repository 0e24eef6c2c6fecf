package wire

import (
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// answer writes the flat frames: one case each, fields in the order of the proto
// file. It reports false, and has written nothing, for the frames that are left to
// protojson: messages, lists of members, and none.
func (o *object) answer(f *roomcastv1.ServerFrame) bool {
	switch f := f.GetFrame().(type) {
	case *roomcastv1.ServerFrame_Welcome_:
		o.open("welcome")
		o.text("connection", f.Welcome.GetConnection())
		o.text("user", f.Welcome.GetUser())
		o.text("node", f.Welcome.GetNode())
		o.number("pingMs", f.Welcome.GetPingMs())
		o.text("version", f.Welcome.GetVersion())
	case *roomcastv1.ServerFrame_Subscribed_:
		o.open("subscribed")
		o.text("room", f.Subscribed.GetRoom())
		o.text("position", f.Subscribed.GetPosition())
	case *roomcastv1.ServerFrame_Unsubscribed_:
		o.open("unsubscribed")
		o.text("room", f.Unsubscribed.GetRoom())
	case *roomcastv1.ServerFrame_Gap:
		o.open("gap")
		o.text("room", f.Gap.GetRoom())
		o.text("after", f.Gap.GetAfter())
		o.text("reason", f.Gap.GetReason())
		o.text("position", f.Gap.GetPosition())
	case *roomcastv1.ServerFrame_Published_:
		o.open("published")
		o.text("id", f.Published.GetId())
		o.flag("stored", f.Published.GetStored())
		o.flag("duplicate", f.Published.GetDuplicate())
	case *roomcastv1.ServerFrame_Authenticated_:
		o.open("authenticated")
		o.time("expires", f.Authenticated.GetExpires())
	case *roomcastv1.ServerFrame_Pong_:
		o.open("pong")
	case *roomcastv1.ServerFrame_Error_:
		o.open("error")
		o.text("code", f.Error.GetCode())
		o.text("reason", f.Error.GetReason())
		o.text("message", f.Error.GetMessage())
		o.text("field", f.Error.GetField())
		o.number("retryMs", f.Error.GetRetryMs())
	default:
		return false
	}
	o.close()
	return true
}

// object writes a JSON object, member by member. As in protobuf's mapping a field
// that has its default is left out.
type object struct {
	dst    []byte
	broken bool // a value has no JSON, such as text that is not UTF-8
}

func (o *object) name(name string) {
	if o.dst[len(o.dst)-1] != '{' {
		o.dst = append(o.dst, ',')
	}
	o.dst = append(append(append(o.dst, '"'), name...), `":`...)
}

func (o *object) open(name string) {
	o.name(name)
	o.dst = append(o.dst, '{')
}

func (o *object) close() { o.dst = append(o.dst, '}') }

func (o *object) text(name, value string) {
	if value == "" {
		return
	}
	o.broken = o.broken || !utf8.ValidString(value)
	o.name(name)
	o.dst = appendQuoted(o.dst, value)
}

func (o *object) number(name string, value uint32) {
	if value == 0 {
		return
	}
	o.name(name)
	o.dst = strconv.AppendUint(o.dst, uint64(value), 10)
}

func (o *object) flag(name string, value bool) {
	if !value {
		return
	}
	o.name(name)
	o.dst = append(o.dst, "true"...)
}

func (o *object) time(name string, value *timestamppb.Timestamp) {
	if value == nil {
		return
	}
	o.broken = o.broken || !value.IsValid()
	o.name(name)
	o.dst = appendTime(o.dst, value.AsTime())
}
