package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ bytes, want int }{
		"by events":          {1, queueEvents},
		"by bytes":           {queueBytes / 4, 4},
		"takes any when new": {2 * queueBytes, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				ctx, cancel := context.WithCancel(t.Context())
				pushed := 0
				go func() {
					for q.push(ctx, Unsubscribed{}, test.bytes) == nil {
						pushed++
					}
				}()
				synctest.Wait()
				if pushed != test.want {
					t.Errorf("got %d events, want %d", pushed, test.want)
				}
				if _, err := q.next(ctx); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if pushed != test.want+1 {
					t.Errorf("got %d events after one was taken, want %d", pushed, test.want+1)
				}
				cancel()
			})
		})
	}
}

func TestQueueDrainsBeforeItsError(t *testing.T) {
	t.Parallel()
	q, over := newQueue(), errors.New("over")
	for _, room := range []string{"a", "b"} {
		if err := q.push(t.Context(), Unsubscribed{room}, 0); err != nil {
			t.Fatal(err)
		}
	}
	q.close(over)
	q.close(errors.New("a later reason"))
	for _, room := range []string{"a", "b"} {
		if event, err := q.next(t.Context()); event != (Unsubscribed{room}) || err != nil {
			t.Errorf("got %v, %v, want %s", event, err, room)
		}
	}
	if _, err := q.next(t.Context()); !errors.Is(err, over) {
		t.Errorf("got %v, want the first reason", err)
	}
}

// TestQueueWakesAll: of two that wait for room, one gives up its event when woken.
func TestQueueWakesAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		if !q.offer(Unsubscribed{"first"}, 2*queueBytes) {
			t.Fatal("an empty queue takes no event")
		}
		for range 2 {
			tries := 0
			go func() {
				_ = q.until(t.Context(), func() bool {
					tries++
					return tries > 1 // its event counts no more
				})
			}()
		}
		synctest.Wait()
		go func() { _ = q.push(t.Context(), Unsubscribed{"last"}, 0) }()
		synctest.Wait()
		for _, want := range []string{"first", "last"} {
			if got, err := q.next(t.Context()); got != (Unsubscribed{want}) || err != nil {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
			synctest.Wait()
		}
	})
}
