package gateway

import "time"

// instant is a time as a socket keeps it: nanoseconds of its gateway's clock, which
// begins with the gateway and does not jump. A time.Time has three times the bytes.
type instant int64

// never is no time at all.
const never instant = 0

// instant returns a time on the gateway's clock.
func (g *Gateway) instant(t time.Time) instant { return instant(t.Sub(g.began)) }

// now is the time on the gateway's clock.
func (g *Gateway) now() instant { return g.instant(time.Now()) }

// add returns a later time.
func (i instant) add(d time.Duration) instant { return i + instant(d) }
