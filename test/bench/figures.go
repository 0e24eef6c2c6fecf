package main

import "github.com/roomcast/roomcast/internal/bench"

func figuresOfC() []figure {
	return []figure{
		{what: "deliveries per CPU s", goal: 95e3, peers: [4]string{"57 k", "65 k", "56 k", "105 k"}, value: perCPU},
		{
			what: "median publish to last delivery", unit: milliseconds, goal: 85, atMost: true,
			peers: [4]string{"110 ms", "103 ms", "113 ms", "75 ms"},
			value: func(r *measurement) float64 { return r.Last.P50 },
		},
	}
}

func figuresOfF() []figure {
	return []figure{
		{
			what: "CPU a message on node 2, above idle", unit: microseconds, goal: tickPerMessage, says: "0, to a clock tick of 0.3 µs", atMost: true,
			peers: [4]string{"0", "46 µs", "0.3 µs", "–"},
			value: func(r *measurement) float64 { return perMessage(r, 1) - idlePerMessage(r, 1) },
		},
		{
			what: "the same, with what it uses idle", unit: microseconds, peers: none(),
			value: func(r *measurement) float64 { return perMessage(r, 1) },
		},
		{
			what: "CPU a message on node 1 and the bus", unit: microseconds, goal: 90, atMost: true,
			peers: [4]string{"280 µs", "96 µs", "60 µs", "–"},
			value: func(r *measurement) float64 { return perMessage(r, 0) + perMessage(r, 2) },
		},
	}
}

func figuresOfH() []figure {
	return []figure{
		{
			what: "p99 beside the load to p99 alone", unit: times, goal: 5, atMost: true, peers: none(),
			value: func(r *measurement) float64 { return r.Probe.Ratio },
		},
		{what: "p99 alone", unit: milliseconds, peers: none(), value: func(r *measurement) float64 { return r.Probe.Alone.P99 }},
		{what: "p99 beside the load", unit: milliseconds, peers: none(), value: func(r *measurement) float64 { return r.Probe.Beside.P99 }},
	}
}

// figuresOfRaw quotes what this machine asks for a write, for comparing with others.
func figuresOfRaw() []figure {
	return []figure{
		{what: "CPU a call", unit: microseconds, peers: none(), value: func(r *measurement) float64 { return 1e6 / perCPU(r) }},
		{what: "calls per CPU s", peers: none(), value: perCPU},
	}
}

// figuresOfS compares the run with sockets that read nothing for 8 s with one without
// such sockets and with one in which they read nothing for a tenth of that.
func figuresOfS() []figure {
	without := func(r *measurement) *bench.Report { return &r.first[0] }
	short := func(r *measurement) *bench.Report { return &r.first[1] }
	return []figure{
		{
			what: "heap after ten times the messages to heap after them", unit: times, goal: 1.05, atMost: true, peers: none(),
			value: func(r *measurement) float64 {
				return float64(r.Stalled.During.InUse) / float64(short(r).Stalled.During.InUse)
			},
		},
		{
			what: "the others' deliveries/s to those without stalled sockets", unit: times, goal: 0.9, peers: none(),
			value: func(r *measurement) float64 {
				return r.Traffic.DeliveriesPerSecond / without(r).Traffic.DeliveriesPerSecond
			},
		},
		{
			what: "the same per CPU s", unit: times, peers: none(),
			value: func(r *measurement) float64 { return perCPU(r) / without(r).Traffic.DeliveriesPerCPU },
		},
		{
			what: "heap in use after 0.8 s", unit: megabytes, peers: none(),
			value: func(r *measurement) float64 { return float64(short(r).Stalled.During.InUse) / 1e6 },
		},
		{
			what: "heap in use after 8 s", unit: megabytes, peers: none(),
			value: func(r *measurement) float64 { return float64(r.Stalled.During.InUse) / 1e6 },
		},
		{
			what: "messages behind after 0.8 s", peers: none(),
			value: func(r *measurement) float64 { return float64(short(r).Stalled.LeastBehind) },
		},
		{
			what: "messages behind after 8 s", peers: none(),
			value: func(r *measurement) float64 { return float64(r.Stalled.LeastBehind) },
		},
		{
			what: "reading again until all had everything", unit: milliseconds, peers: none(),
			value: func(r *measurement) float64 { return r.Stalled.CaughtUp },
		},
	}
}

// none is a figure that was not measured of peers.
func none() [4]string { return [4]string{"–", "–", "–", "–"} }

// tickPerMessage is the least that row F can see, in microseconds: the system counts
// processor time in ticks of 10 ms, and a run of 8 s has 32,000 messages.
const tickPerMessage = 0.32

// perMessage is the processor time that one process used for each message, in
// microseconds. The processes are the nodes in their order, then the nats-server.
func perMessage(r *measurement, process int) float64 {
	return r.Usage.Processes[process].CPU * 1e6 / float64(r.Traffic.Published)
}

// idlePerMessage is what one process would have used for each message in the same time
// without any.
func idlePerMessage(r *measurement, process int) float64 {
	return r.idle[process].Seconds() / idleFor.Seconds() * r.Usage.Seconds * 1e6 / float64(r.Traffic.Published)
}
