package main

// idleRows measure what sockets cost that say nothing, and what it costs to become one.
func idleRows() []row {
	idle := func(sockets, rooms, idle string) []string {
		return []string{"--rooms", rooms, "--sockets", sockets, "--idle", idle, "--rate", "1", "--warmup", "0s", "--duration", "3s"}
	}
	return []row{
		{
			name: "A", what: "15,000 idle sockets in one room, after 30 s; then 1 message/s", nodes: 1, flags: idle("15000", "1", "30s"),
			figures: figuresOfA(3.5, "48 KB", "18.4 KB", "50 KB", "0.5 KB (flattered)"),
		},
		{
			name: "A'", what: "15,000 idle sockets in a room each", nodes: 1, flags: idle("15000", "15000", "30s"),
			figures: figuresOfA(5.5, "58 KB", "18.5 KB", "50.6 KB", "0.9 KB (flattered)"),
		},
		{
			name: "A' tokens", what: "the same, each with a user and token of its own", nodes: 1, tokens: true, flags: idle("15000", "15000", "30s"),
			figures: figuresOfA(0, "–", "–", "–", "–"),
		},
		{
			name: "A TLS", what: "row A over TLS", nodes: 1, tls: true, flags: idle("15000", "1", "30s"),
			figures: figuresOfA(12, "–", "–", "–", "–"),
		},
		{
			name: "E", what: "10,000 sockets connect to a room each, 32 at once", nodes: 1, flags: idle("10000", "10000", "1s"),
			figures: figuresOfE(140, "259 µs, no auth", "129 µs, no auth, no subscribe", "256 µs", "97–104 µs, no auth"),
		},
		{
			name: "E tokens", what: "the same, each with a user and token of its own", nodes: 1, tokens: true, flags: idle("10000", "10000", "1s"),
			figures: figuresOfE(0, "–", "–", "–", "–"),
		},
	}
}

// figuresOfA is what an idle socket holds: kilobytes of 1,000 bytes.
func figuresOfA(goal float64, peers ...string) []figure {
	return []figure{
		{
			what: "RSS a socket", unit: kilobytes, goal: goal, atMost: true, peers: [4]string(peers),
			value: func(r *measurement) float64 { return r.Connect.RSSEach(r.Idle) / 1e3 },
		},
		{
			what: "of a processor for 10,000 idle sockets", unit: percent, peers: none(),
			value: func(r *measurement) float64 {
				return 100 * r.Idle.CPU / r.Idle.Seconds / float64(r.Connect.Sockets) * 10_000
			},
		},
		{what: "median publish to last delivery", unit: milliseconds, peers: none(), value: func(r *measurement) float64 { return r.Last.P50 }},
		{what: "CPU a connect", unit: microseconds, peers: none(), value: cpuPerConnect},
	}
}

// figuresOfE is what a socket costs until it has subscribed.
func figuresOfE(goal float64, peers ...string) []figure {
	return []figure{
		{what: "CPU a connect", unit: microseconds, goal: goal, atMost: true, peers: [4]string(peers), value: cpuPerConnect},
		{what: "connects/s", peers: none(), value: func(r *measurement) float64 { return r.Connect.PerSecond }},
	}
}

func cpuPerConnect(r *measurement) float64 { return 1e6 * r.Connect.CPUEach() }
