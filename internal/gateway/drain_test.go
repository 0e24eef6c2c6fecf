package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

const reconnectFrame = `{"reconnect":{"withinMs":1000,"reason":"DRAINING"}}`

// drain begins a drain; what it returns waits for its end.
func (w *world) drain(ctx context.Context, window time.Duration) (wait func()) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		w.gw.Drain(ctx, window)
	}()
	return func() { <-drained }
}

// story is when a peer was asked to move and closed, counted from a drain's begin.
type story struct {
	told, closed time.Duration
	retry        string // of the close reason
}

// watch reads a peer to its end, and hangs up when told to move, if it moves.
func (p *peer) watch(began time.Time, moves bool) (s story) {
	for {
		frame, err := p.next()
		if err == nil {
			if frame != reconnectFrame {
				p.t.Errorf("got %s, want %s", frame, reconnectFrame)
			}
			s.told = time.Since(began)
			if moves {
				p.raw(closeFrame(1000, ""))
			}
			continue
		}
		s.closed = time.Since(began)
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code == codeRestart {
			s.retry = strings.TrimPrefix(closed.Text, "DRAINING retry_ms=")
		}
		return s
	}
}

// TestDrainIsPaced: sockets are asked to move evenly, after a second and before the
// last fifth of the window; in its last tenth those that stay are closed, evenly too.
func TestDrainIsPaced(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		const count = 70 // in 15 s
		stories := make([]story, count)
		var peers sync.WaitGroup
		began := time.Now()
		for i := range stories {
			p := w.guest("")
			peers.Go(func() { stories[i] = p.watch(began, i%2 == 0) })
		}
		synctest.Wait()
		took := since(t)
		w.drain(context.Background(), 20*time.Second)()
		took(19900 * time.Millisecond)
		peers.Wait()
		told, closed, retries := map[time.Duration]int{}, 0, map[string]bool{}
		for i, s := range stories {
			if s.told < time.Second || s.told > 16*time.Second {
				t.Errorf("told after %s, want 1s to 16s", s.told)
			}
			told[s.told/time.Second]++
			if i%2 == 0 {
				continue
			}
			if closed++; s.closed < 18*time.Second || s.closed > 20*time.Second || s.closed-s.told < 2*time.Second {
				t.Errorf("told after %s and closed after %s, want that from 18s on and 2s later at least", s.told, s.closed)
			}
			retries[s.retry] = true
		}
		for second, n := range told {
			if n > 6 {
				t.Errorf("%d sockets were told in second %d, want about %d", n, second, count/15)
			}
		}
		if len(retries) != closed {
			t.Errorf("%d closed sockets were told %d times to come again, want each its own", closed, len(retries))
		}
		w.wantCloses(map[string]int{"1000": count / 2, "1012": count / 2})
	})
}

// TestDrainHastened: a further drain makes the first one end sooner, never later.
func TestDrainHastened(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		stories := make([]story, 100)
		var peers sync.WaitGroup
		began := time.Now()
		for i := range stories {
			p := w.guest("")
			peers.Go(func() { stories[i] = p.watch(began, false) })
		}
		synctest.Wait()
		took := since(t)
		first := w.drain(context.Background(), 1000*time.Second)
		elapse(100 * time.Second)
		w.gw.Hasten(time.Hour)
		w.drain(context.Background(), 10*time.Second)()
		first()
		took(110 * time.Second)
		peers.Wait()
		early := 0
		for _, s := range stories {
			if s.told < 100*time.Second {
				early++
			}
			if s.closed > 110*time.Second {
				t.Errorf("closed after %s, want at most 110s", s.closed)
			}
		}
		if early < 10 || early > 15 {
			t.Errorf("%d of 100 were told in the first 100s of 800s, want about 12", early)
		}
	})
}

func TestHastenBeginsNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		w.gw.Hasten(0)
		elapse(time.Second)
		w.guest("").ask(`{"id":1,"ping":{}}`, `{"id":1,"pong":{}}`)
	})
}

// TestDrainSettles: a draining node takes sockets for another second, and moves them
// like the others; later ones are refused.
func TestDrainSettles(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		first := w.guest("")
		wait := w.drain(context.Background(), 20*time.Second)
		elapse(900 * time.Millisecond)
		late := w.guest("")
		elapse(200 * time.Millisecond)
		dialer := websocket.Dialer{NetDialContext: w.listener.dial}
		_, answer, err := dialer.Dial("ws://node/v1/ws", nil)
		if err == nil || answer == nil {
			t.Fatalf("got %v, %v, want a refusal while draining", answer, err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d while draining, want 503", answer.StatusCode)
		}
		for _, p := range []*peer{first, late} {
			p.want(reconnectFrame)
			p.ask(`{"id":1,"ping":{}}`, `{"id":1,"pong":{}}`) // all goes on
			p.raw(closeFrame(1000, ""))
		}
		wait()
	})
}

func TestDrainEndsEarly(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]func(p *peer, stop context.CancelFunc){
		"all left": func(p *peer, _ context.CancelFunc) { p.raw(closeFrame(1001, "")) },
		"told to":  func(_ *peer, stop context.CancelFunc) { stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, guests, func(w *world) {
				t := w.t
				p := w.guest("")
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				took := since(t)
				wait := w.drain(ctx, 20*time.Second)
				p.want(reconnectFrame)
				<-time.After(4 * time.Second)
				early(p, stop)
				p.wantClose(map[string]int{"all left": 1001, "told to": 1012}[name],
					map[string]string{"all left": "CLIENT_CLOSED", "told to": "DRAINING retry_ms=100"}[name])
				wait()
				took(5 * time.Second)
			})
		})
	}
}

// TestDrainBeforeWelcome: the welcome stays the first frame.
func TestDrainBeforeWelcome(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(w *world) {
		t := w.t
		p := w.dial("", "")
		elapse(0) // the handshake has ended here too
		wait := w.drain(context.Background(), 5*time.Second)
		elapse(2 * time.Second)
		p.send(authFrame(token(t, "ann", time.Minute)))
		p.want("welcome ann", reconnectFrame, authenticated(time.Minute))
		p.wantClose(1012, "DRAINING retry_ms=100")
		wait()
	})
}

// TestDrainDuringHandshake: who comes through the handshake too late is sent on.
func TestDrainDuringHandshake(t *testing.T) {
	t.Parallel()
	inBubble(t, guests, func(w *world) {
		t := w.t
		w.gw.Drain(t.Context(), 0)
		ours, theirs := net.Pipe()
		go w.gw.open(theirs, &admission{answer: []byte("answered ")})
		data, err := io.ReadAll(ours)
		if err != nil || string(data) != "answered "+serverClose(1012, "DRAINING retry_ms=100") {
			t.Errorf("got %q, %v", data, err)
		}
		_ = ours.Close()
	})
}
