package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// decodeJSON reads a client frame of the JSON subprotocol: the canonical protobuf
// mapping, strictly.
func decodeJSON(data []byte) (*roomcastv1.ClientFrame, error) {
	frame, f := decodeFrame(data)
	if f != nil {
		return &roomcastv1.ClientFrame{Id: findID(data)}, f.asError()
	}
	return frame, nil
}

func decodeFrame(data []byte) (*roomcastv1.ClientFrame, *fault) {
	if !utf8.Valid(data) {
		return nil, &fault{msg: "is not valid UTF-8"}
	}
	d := &decoder{scanner{data: data}}
	frame, f := d.frame()
	if f == nil {
		f = d.end()
	}
	if f == nil && frame.GetRequest() == nil {
		f = &fault{msg: "names no request"}
	}
	return frame, f
}

// findID looks for the id of a frame that cannot be decoded.
func findID(data []byte) uint32 {
	var id uint32
	d := &decoder{scanner{data: data}}
	d.members(func(name []byte) *fault {
		if string(name) == "id" {
			return d.uint32(&id)
		}
		return d.skipValue()
	})
	return id
}

// decoder reads the messages of ClientFrame.
type decoder struct{ scanner }

func (d *decoder) frame() (*roomcastv1.ClientFrame, *fault) {
	frame := &roomcastv1.ClientFrame{}
	known := []string{"id", "subscribe", "unsubscribe", "publish", "members", "auth", "ping"}
	return frame, d.object(known, func(name string) *fault {
		if name == "id" {
			return d.uint32(&frame.Id)
		}
		if frame.GetRequest() != nil {
			return &fault{msg: "is a second request in one frame"}
		}
		return d.request(frame, name)
	})
}

func (d *decoder) request(frame *roomcastv1.ClientFrame, name string) *fault {
	switch name {
	case "subscribe":
		r := &roomcastv1.ClientFrame_Subscribe{}
		frame.Request = &roomcastv1.ClientFrame_Subscribe_{Subscribe: r}
		return d.subscribe(r)
	case "unsubscribe":
		r := &roomcastv1.ClientFrame_Unsubscribe{}
		frame.Request = &roomcastv1.ClientFrame_Unsubscribe_{Unsubscribe: r}
		return d.object([]string{"room"}, func(string) *fault { return d.string(&r.Room) })
	case "publish":
		r := &roomcastv1.ClientFrame_Publish{}
		frame.Request = &roomcastv1.ClientFrame_Publish_{Publish: r}
		return d.publish(r)
	case "members":
		r := &roomcastv1.ClientFrame_Members{}
		frame.Request = &roomcastv1.ClientFrame_Members_{Members: r}
		return d.object([]string{"room"}, func(string) *fault { return d.string(&r.Room) })
	case "auth":
		r := &roomcastv1.ClientFrame_Auth{}
		frame.Request = &roomcastv1.ClientFrame_Auth_{Auth: r}
		return d.object([]string{"token"}, func(string) *fault { return d.string(&r.Token) })
	default: // ping
		frame.Request = &roomcastv1.ClientFrame_Ping_{Ping: &roomcastv1.ClientFrame_Ping{}}
		return d.object(nil, nil)
	}
}

func (d *decoder) subscribe(r *roomcastv1.ClientFrame_Subscribe) *fault {
	return d.object([]string{"room", "after", "presence"}, func(name string) *fault {
		switch name {
		case "room":
			return d.string(&r.Room)
		case "after":
			return d.string(&r.After)
		default:
			return d.bool(&r.Presence)
		}
	})
}

func (d *decoder) publish(r *roomcastv1.ClientFrame_Publish) *fault {
	known := []string{"room", "json", "rawJson", "text", "data", "event", "messageId", "ttl"}
	return d.object(known, func(name string) *fault {
		switch name {
		case "room":
			return d.string(&r.Room)
		case "event":
			return d.string(&r.Event)
		case "messageId":
			return d.string(&r.MessageId)
		case "ttl":
			return d.duration(&r.Ttl)
		default:
			if r.GetPayload() != nil {
				return &fault{msg: "is a second payload in one message"}
			}
			return d.payload(r, name)
		}
	})
}

func (d *decoder) payload(r *roomcastv1.ClientFrame_Publish, name string) *fault {
	switch name {
	case "json":
		text, f := d.raw()
		r.Payload = &roomcastv1.ClientFrame_Publish_RawJson{RawJson: bytes.Clone(text)}
		return f
	case "rawJson":
		p := &roomcastv1.ClientFrame_Publish_RawJson{}
		r.Payload = p
		return d.bytes(&p.RawJson)
	case "text":
		p := &roomcastv1.ClientFrame_Publish_Text{}
		r.Payload = p
		return d.string(&p.Text)
	default: // data
		p := &roomcastv1.ClientFrame_Publish_Data{}
		r.Payload = p
		return d.bytes(&p.Data)
	}
}

func (d *decoder) string(dst *string) *fault {
	text, f := d.text()
	*dst = text
	return f
}

func (d *decoder) bool(dst *bool) *fault {
	switch string(d.literal()) {
	case "true":
		*dst = true
		return nil
	case "false":
		return nil
	default:
		return d.unexpected("must be true or false")
	}
}

// bytes reads base64, either alphabet, with or without padding.
func (d *decoder) bytes(dst *[]byte) *fault {
	text, f := d.text()
	if f != nil {
		return f
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	if len(text)%4 == 0 {
		encoding = encoding.WithPadding('=')
	}
	value, err := encoding.DecodeString(text)
	if err != nil {
		return &fault{msg: "is not valid base64"}
	}
	*dst = value
	return nil
}

// duration reads seconds with up to nine decimals and an "s".
func (d *decoder) duration(dst **durationpb.Duration) *fault {
	text, f := d.text()
	if f != nil {
		return f
	}
	value := &durationpb.Duration{}
	quoted, err := json.Marshal(text)
	if err == nil {
		err = protojson.Unmarshal(quoted, value)
	}
	if err != nil {
		return &fault{msg: `is no duration such as "1.5s"`}
	}
	*dst = value
	return nil
}

// uint32 reads an integer as a number or as a string.
func (d *decoder) uint32(dst *uint32) *fault {
	var digits []byte
	if d.peek() == '"' {
		text, f := d.quoted()
		if f != nil {
			return f
		}
		digits = text
	} else {
		digits = d.literal()
	}
	n, ok := parseUint32(string(digits))
	if !ok {
		return d.unexpected("must be an integer from 0 to 4294967295")
	}
	*dst = n
	return nil
}

// parseUint32 reads a JSON number whose value is an integer, however it is written:
// 100, 1e2 and 100.0 are the same.
func parseUint32(number string) (uint32, bool) {
	if !isNumber(number) {
		return 0, false
	}
	number, negative := strings.CutPrefix(number, "-")
	scale := 0
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		exponent, err := strconv.ParseInt(number[i+1:], 10, 32)
		if err != nil {
			return 0, false
		}
		number, scale = number[:i], int(exponent)
	}
	whole, fraction, _ := strings.Cut(number, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	significant := strings.TrimRight(digits, "0")
	if significant == "" {
		return 0, true
	}
	// The value is significant times ten to the power of scale.
	scale += len(digits) - len(significant) - len(fraction)
	if negative || scale < 0 || scale > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(significant+strings.Repeat("0", scale), 10, 32)
	return uint32(n), err == nil
}

func isNumber(text string) bool {
	if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return false
	}
	last := text[len(text)-1]
	return last >= '0' && last <= '9' && json.Valid([]byte(text))
}
