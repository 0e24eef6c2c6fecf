package gateway

import (
	"testing"

	"github.com/roomcast/roomcast/internal/room"
)

func TestDegraded(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		const frame = `{"degraded":{"reason":"BUS_UNAVAILABLE"}}`
		before := w.guest("?room=a")
		before.want(`{"subscribed":{"room":"a","position":"@10"}}`)
		w.gw.SetDegraded("")
		for range 2 { // it is told once
			w.gw.SetDegraded(room.ReasonBusUnavailable)
		}
		before.want(frame)
		meanwhile := w.guest("") // the welcome stays the first frame
		meanwhile.want(frame)
		before.ask(`{"id":1,"ping":{}}`, `{"id":1,"pong":{}}`)
		for range 2 {
			w.gw.SetDegraded("")
		}
		for _, p := range []*peer{before, meanwhile, w.guest("")} {
			if p == before || p == meanwhile {
				p.want(`{"restored":{}}`)
			}
			p.ask(`{"id":2,"ping":{}}`, `{"id":2,"pong":{}}`)
		}
		w.bus.append("a", "it goes on")
		before.want("m a it goes on")
	})
}
