package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/room"
)

func subscribeFrame(id uint32, s *roomcastv1.ClientFrame_Subscribe) *roomcastv1.ClientFrame {
	return &roomcastv1.ClientFrame{Id: id, Request: &roomcastv1.ClientFrame_Subscribe_{Subscribe: s}}
}

func publishFrame(p *roomcastv1.ClientFrame_Publish) *roomcastv1.ClientFrame {
	return &roomcastv1.ClientFrame{Request: &roomcastv1.ClientFrame_Publish_{Publish: p}}
}

func rawJSONFrame(text string) *roomcastv1.ClientFrame {
	return publishFrame(&roomcastv1.ClientFrame_Publish{
		Room: "r", Payload: &roomcastv1.ClientFrame_Publish_RawJson{RawJson: []byte(text)},
	})
}

func goodFrames() map[string]*roomcastv1.ClientFrame {
	sub := &roomcastv1.ClientFrame_Subscribe{Room: "r"}
	ping := &roomcastv1.ClientFrame{Request: &roomcastv1.ClientFrame_Ping_{Ping: &roomcastv1.ClientFrame_Ping{}}}
	deep := strings.Repeat("[", room.MaxJSONDepth) + strings.Repeat("]", room.MaxJSONDepth)
	return map[string]*roomcastv1.ClientFrame{
		`{"id":1,"subscribe":{"room":"orders:42","after":"e.1.a","presence":true}}`: subscribeFrame(1,
			&roomcastv1.ClientFrame_Subscribe{Room: "orders:42", After: "e.1.a", Presence: true}),
		` { "id" : 4294967295 , "subscribe" : { "room" : "r" , "presence" : false } } ` + "\r\n\t": subscribeFrame(4294967295, sub),
		`{"id":"7","subscribe":{"room":"r","after":null,"presence":null}}`:                         subscribeFrame(7, sub),
		`{"subscribe":{"room":"r"},"id":1e2}`:                                                      subscribeFrame(100, sub),
		`{"subscribe":{"room":"r"},"id":10.0}`:                                                     subscribeFrame(10, sub),
		`{"subscribe":{"room":"r"},"id":-0}`:                                                       subscribeFrame(0, sub),
		`{"id":null,"auth":null,"subscribe":{"room":"r"}}`:                                         subscribeFrame(0, sub),
		`{"subscribe":{}}`: subscribeFrame(0, &roomcastv1.ClientFrame_Subscribe{}),
		`{"subscribe":{"room":"\u0061\"\\\/\b\f\n\r\t\ud83d\ude00é"}}`: subscribeFrame(0,
			&roomcastv1.ClientFrame_Subscribe{Room: "a\"\\/\b\f\n\r\t😀é"}),
		`{"id":2,"unsubscribe":{"room":"r"}}`: {Id: 2, Request: &roomcastv1.ClientFrame_Unsubscribe_{
			Unsubscribe: &roomcastv1.ClientFrame_Unsubscribe{Room: "r"},
		}},
		`{"members":{"room":"r"}}`: {Request: &roomcastv1.ClientFrame_Members_{Members: &roomcastv1.ClientFrame_Members{Room: "r"}}},
		`{"auth":{"token":"t"}}`:   {Request: &roomcastv1.ClientFrame_Auth_{Auth: &roomcastv1.ClientFrame_Auth{Token: "t"}}},
		`{"ping":{}}`:              ping,
		`{"publish":{"room":"r","text":"","event":"e","messageId":"m","ttl":"1.5s"}}`: publishFrame(&roomcastv1.ClientFrame_Publish{
			Room: "r", Event: "e", MessageId: "m", Ttl: durationpb.New(1500 * time.Millisecond),
			Payload: &roomcastv1.ClientFrame_Publish_Text{},
		}),
		`{"publish":{"message_id":"m","data":"+/8="}}`: publishFrame(&roomcastv1.ClientFrame_Publish{
			MessageId: "m", Payload: &roomcastv1.ClientFrame_Publish_Data{Data: []byte{0xFB, 0xFF}},
		}),
		`{"subscribe":{"room":"r"},"id":1e9}`: subscribeFrame(1_000_000_000, sub),
		`{"publish":{"data":"_w"}}`: publishFrame(&roomcastv1.ClientFrame_Publish{
			Payload: &roomcastv1.ClientFrame_Publish_Data{Data: []byte{0xFF}},
		}),
		`{"publish":{"data":"-_8"}}`: publishFrame(&roomcastv1.ClientFrame_Publish{
			Payload: &roomcastv1.ClientFrame_Publish_Data{Data: []byte{0xFB, 0xFF}},
		}),
		`{"publish":{"room":"r","raw_json":"WzFd"}}`:                              rawJSONFrame("[1]"),
		`{"publish":{"json":{"n": 1.00, "big":12345678901234567890},"room":"r"}}`: rawJSONFrame(`{"n": 1.00, "big":12345678901234567890}`),
		`{"publish":{"room":"r","json": 1e400 }}`:                                 rawJSONFrame("1e400"),
		`{"publish":{"room":"r","json":null}}`:                                    rawJSONFrame("null"),
		`{"publish":{"room":"r","json":"a]}\"\\"}}`:                               rawJSONFrame(`"a]}\"\\"`),
		`{"publish":{"room":"r","json":[{"]":"}"},-1]}}`:                          rawJSONFrame(`[{"]":"}"},-1]`),
		`{"publish":{"room":"r","json":{"a":1,"a":"\ud800"}}}`:                    rawJSONFrame(`{"a":1,"a":"\ud800"}`),
		`{"publish":{"room":"r","json":` + deep + `}}`:                            rawJSONFrame(deep),
		`{"publish":{"room":"r"}}`:                                                publishFrame(&roomcastv1.ClientFrame_Publish{Room: "r"}),
	}
}

func TestDecodeClient(t *testing.T) {
	t.Parallel()
	for text, want := range goodFrames() {
		t.Run(text[:min(60, len(text))], func(t *testing.T) {
			t.Parallel()
			data := []byte(text)
			got, err := JSON.DecodeClient(data)
			if err != nil {
				t.Fatal(err)
			}
			clear(data) // the frame must not keep any of it
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("frame differs (-want +got):\n%s", diff)
			}
		})
	}
}

type refusal struct {
	id         uint32
	field, msg string
}

func badFrames() map[string]refusal {
	deep := strings.Repeat("[", 100_000)
	integer := "must be an integer from 0 to 4294967295"
	return map[string]refusal{
		``:                                      {0, "frame", "is not valid JSON: unexpected end at byte 0"},
		`{`:                                     {0, "frame", "is not valid JSON: unexpected end at byte 1"},
		`[]`:                                    {0, "frame", "must be an object"},
		`"x"`:                                   {0, "frame", "must be an object"},
		"\uFEFF" + `{"ping":{}}`:                {0, "frame", "must be an object"},
		"{\"auth\":{\"token\":\"\xff\"}}":       {0, "frame", "is not valid UTF-8"},
		`{}`:                                    {0, "frame", "names no request"},
		`{"id":3}`:                              {3, "frame", "names no request"},
		`{"id":3,"subscribe":null}`:             {3, "frame", "names no request"},
		`{"ping":{}}x`:                          {0, "frame", "is not valid JSON: text after the frame at byte 11"},
		`{"ping":{}}{"ping":{}}`:                {0, "frame", "is not valid JSON: text after the frame at byte 11"},
		`{"ping":{},}`:                          {0, "frame", "is not valid JSON: expected a name at byte 11"},
		`{"ping" {}}`:                           {0, "frame", "is not valid JSON: expected ':' at byte 8"},
		`{"ping":{} "id":1}`:                    {0, "frame", "is not valid JSON: expected ',' at byte 11"},
		`{ping:{}}`:                             {0, "frame", "is not valid JSON: expected a name at byte 1"},
		`{"ping":{"x":1},"id":9}`:               {9, "ping.x", "is not a known field"},
		`{"id":1,"subscrbe":{"room":"r"}}`:      {1, "subscrbe", "is not a known field"},
		`{"id":1,"__proto__":{}}`:               {1, "__proto__", "is not a known field"},
		`{"id":1,"Subscribe":{"room":"r"}}`:     {1, "Subscribe", "is not a known field"},
		`{"subscribe":{"rooom":"r"},"id":1}`:    {1, "subscribe.rooom", "is not a known field"},
		`{"auth":{"` + deep + `":1}}`:           {0, "auth", "has an unknown field"},
		`{"` + deep + `":1}`:                    {0, "frame", "has an unknown field"},
		`{"a\u0000":1}`:                         {0, "frame", "has an unknown field"},
		`{"":1}`:                                {0, "frame", "has an unknown field"},
		`{"id":1,"id":1,"ping":{}}`:             {1, "id", "is there twice"},
		`{"subscribe":{"room":"a","room":"b"}}`: {0, "subscribe.room", "is there twice"},
		`{"publish":{"messageId":"a","message_id":"b"}}`:                            {0, "publish.messageId", "is there twice"},
		`{"ping":{},"auth":{}}`:                                                     {0, "auth", "is a second request in one frame"},
		`{"publish":{"json":1,"text":"x"}}`:                                         {0, "publish.text", "is a second payload in one message"},
		`{"publish":{"json":1,"rawJson":""}}`:                                       {0, "publish.rawJson", "is a second payload in one message"},
		`{"id":2,"subscribe":{"room":5}}`:                                           {2, "subscribe.room", "must be a string"},
		`{"id":2,"subscribe":{"room":{"a":1}}}`:                                     {2, "subscribe.room", "must be a string"},
		`{"id":2,"subscribe":{"room":` + deep + strings.Repeat("]", 100_000) + `}}`: {2, "subscribe.room", "must be a string"},
		`{"id":2,"subscribe":"r"}`:                                                  {2, "subscribe", "must be an object"},
		`{"subscribe":{"presence":"true"}}`:                                         {0, "subscribe.presence", "must be true or false"},
		`{"subscribe":{"presence":truee}}`:                                          {0, "subscribe.presence", "must be true or false"},
		`{"subscribe":{"presence":nul}}`:                                            {0, "subscribe.presence", "must be true or false"},
		`{"subscribe":{"room":nullx}}`:                                              {0, "frame", "is not valid JSON: expected ',' at byte 25"},
		`{"id":-1,"ping":{}}`:                                                       {0, "id", integer},
		`{"id":4294967296,"ping":{}}`:                                               {0, "id", integer},
		`{"id":1.5,"ping":{}}`:                                                      {0, "id", integer},
		`{"id":1e400,"ping":{}}`:                                                    {0, "id", integer},
		`{"id":1e99999999999,"ping":{}}`:                                            {0, "id", integer},
		`{"id":NaN,"ping":{}}`:                                                      {0, "id", integer},
		`{"id":01,"ping":{}}`:                                                       {0, "id", integer},
		`{"id":+1,"ping":{}}`:                                                       {0, "id", integer},
		`{"id":" 1","ping":{}}`:                                                     {0, "id", integer},
		`{"id":"","ping":{}}`:                                                       {0, "id", integer},
		`{"id":true,"ping":{}}`:                                                     {0, "id", integer},
		`{"id":`:                                                                    {0, "frame", "is not valid JSON: unexpected end at byte 6"},
		`{"auth":{"token":"\ud800"}}`:                                               {0, "frame", "is not valid JSON: bad escape at byte 24"},
		`{"auth":{"token":"\udc00\ud800"}}`:                                         {0, "frame", "is not valid JSON: bad escape at byte 30"},
		`{"auth":{"token":"\x41"}}`:                                                 {0, "frame", "is not valid JSON: bad escape at byte 18"},
		`{"auth":{"token":"\u00"}}`:                                                 {0, "frame", "is not valid JSON: bad escape at byte 18"},
		`{"auth":{"token":"\`:                                                       {0, "frame", "is not valid JSON: bad escape at byte 18"},
		"{\"auth\":{\"token\":\"a\nb\"}}":                                           {0, "frame", "is not valid JSON: control character in a string at byte 19"},
		"{\"auth\":{\"token\":\"\\n\n\"}}":                                          {0, "frame", "is not valid JSON: control character in a string at byte 20"},
		`{"auth":{"token":"abc`:                                                     {0, "frame", "is not valid JSON: unexpected end at byte 21"},
		`{"auth":{"token":"\nabc`:                                                   {0, "frame", "is not valid JSON: unexpected end at byte 23"},
		`{"publish":{"json":{]}}}`:                                                  {0, "publish.json", "is not one valid JSON value"},
		`{"publish":{"json":NaN}}`:                                                  {0, "publish.json", "is not one valid JSON value"},
		`{"publish":{"json":}}`:                                                     {0, "publish.json", "is not one valid JSON value"},
		`{"publish":{"json":1"a"}}`:                                                 {0, "publish.json", "is not one valid JSON value"},
		`{"publish":{"json":{"a":1}`:                                                {0, "frame", "is not valid JSON: unexpected end at byte 26"},
		`{"publish":{"json":"\`:                                                     {0, "frame", "is not valid JSON: unexpected end at byte 22"},
		`{"publish":{"json":[` + deep:                                               {0, "frame", "is not valid JSON: unexpected end at byte 100020"},
		`{"id":5,"publish":{"json":` + deep + strings.Repeat("]", 100_000) + `}}`: {5, "publish.json", "is nested deeper than 512"},
		`{"publish":{"data":"*"}}`:        {0, "publish.data", "is not valid base64"},
		`{"publish":{"data":"+_8="}}`:     {0, "publish.data", "is not valid base64"},
		`{"publish":{"rawJson":[1]}}`:     {0, "publish.rawJson", "must be a string"},
		`{"publish":{"ttl":5}}`:           {0, "publish.ttl", "must be a string"},
		`{"publish":{"ttl":"5"}}`:         {0, "publish.ttl", `is no duration such as "1.5s"`},
		`{"publish":{"excludeUser":"u"}}`: {0, "publish.excludeUser", "is not a known field"},
	}
}

func TestDecodeClientRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range badFrames() {
		t.Run(text[:min(60, len(text))], func(t *testing.T) {
			t.Parallel()
			frame, err := JSON.DecodeClient([]byte(text))
			e, ok := errors.AsType[*room.Error](err)
			if !ok {
				t.Fatalf("got error %v, want a *room.Error", err)
			}
			if e.Kind != room.Invalid || e.Reason != room.ReasonInvalidFrame {
				t.Errorf("got kind %d, reason %s, want Invalid, INVALID_FRAME", e.Kind, e.Reason)
			}
			got := refusal{frame.GetId(), e.Field, e.Msg}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(refusal{})); diff != "" {
				t.Errorf("refusal differs (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzDecodeClient holds DecodeClient to protojson: what we accept means the same
// there, and of what we refuse it accepts only what it reads too leniently.
func FuzzDecodeClient(f *testing.F) {
	for text := range goodFrames() {
		f.Add([]byte(text))
	}
	for text := range badFrames() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := JSON.DecodeClient(data)
		want := &roomcastv1.ClientFrame{}
		protoErr := protojson.Unmarshal(data, want)
		if err != nil {
			e := room.AsError(err)
			if e.Reason != room.ReasonInvalidFrame || e.Field == "" || len(e.Error()) > 200 {
				t.Fatalf("got refusal %#v of %q", e, data)
			}
			// protojson reads "1e" as a number.
			if protoErr == nil && want.GetRequest() != nil && json.Valid(data) && !strings.Contains(string(data), "e") {
				t.Fatalf("got %v for %q, protojson reads it", err, data)
			}
			return
		}
		raw, isRaw := got.GetPublish().GetPayload().(*roomcastv1.ClientFrame_Publish_RawJson)
		_, inline := want.GetPublish().GetPayload().(*roomcastv1.ClientFrame_Publish_Json)
		switch {
		case protoErr != nil && isRaw:
			// A Value holds less than JSON does: our text must then be JSON all the same.
			if !json.Valid(raw.RawJson) {
				t.Fatalf("accepted payload %q, which is no JSON", raw.RawJson)
			}
			return
		case protoErr != nil:
			t.Fatalf("accepted %q, protojson says %v", data, protoErr)
		case inline:
			payload, err := FramePayload(want.GetPublish())
			if err != nil {
				t.Fatal(err)
			}
			requireSameJSON(t, raw.RawJson, payload.Bytes)
			want.GetPublish().Payload = got.GetPublish().GetPayload()
		}
		if !proto.Equal(want, got) {
			t.Fatalf("%q: got %v, want %v", data, got, want)
		}
	})
}
