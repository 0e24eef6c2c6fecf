package bench

// Report is what a run has found.
type Report struct {
	Load     LoadReport `json:"load"`
	Format   Format     `json:"format"`
	Warmup   float64    `json:"warmupSeconds"`
	Connect  Connect    `json:"connect"`
	Idle     *Usage     `json:"idle,omitempty"` // between the last socket and the warm-up
	Traffic  Traffic    `json:"traffic"`
	Usage    Usage      `json:"usage"`
	Delivery Latency    `json:"delivery"`     // from due to each delivery
	Last     Latency    `json:"lastDelivery"` // from due to the last delivery of a message
	Probe    *Probe     `json:"probe,omitempty"`
	Stalled  *Stalled   `json:"stalled,omitempty"`
	Errors   Errors     `json:"errors"`
}

// LoadReport repeats what was asked for.
type LoadReport struct {
	Rooms      int     `json:"rooms"`
	Sockets    int     `json:"sockets"`
	Stalled    int     `json:"stalled,omitempty"`
	InFlight   int     `json:"inFlight"`
	Publishers int     `json:"publishers"`
	Mode       Mode    `json:"mode"`
	Batch      int     `json:"batch,omitempty"`
	Rate       float64 `json:"rate,omitempty"`
	Payload    int     `json:"payload"`
}

func (l *Load) report() LoadReport {
	r := LoadReport{
		Rooms: l.Rooms, Sockets: l.Sockets, Stalled: l.Stalled, InFlight: l.InFlight, Publishers: l.Publishers,
		Mode: l.Mode, Rate: l.Rate, Payload: l.Payload,
	}
	if l.Mode == Batch {
		r.Batch = l.Batch
	}
	return r
}

// Connect is what opening the sockets took.
type Connect struct {
	Sockets   int     `json:"sockets"`
	PerSecond float64 `json:"perSecond"`
	Usage     Usage   `json:"usage"`
	RSSBefore []int64 `json:"rssBytesBefore,omitempty"` // of each process
}

// CPUEach is what one socket cost the service to connect, authenticate and subscribe, in
// seconds of processor time.
func (c *Connect) CPUEach() float64 { return c.Usage.CPU / float64(c.Sockets) }

// RSSEach is by how much the service's processes have grown for each socket at a later
// time, in bytes. Collections are not asked for: it is what the system sees.
func (c *Connect) RSSEach(later *Usage) float64 {
	grown := int64(0)
	for i, p := range later.Processes {
		grown += p.RSS - c.RSSBefore[i]
	}
	return float64(grown) / float64(c.Sockets)
}

// Traffic is what happened while it was measured.
type Traffic struct {
	Published           uint64  `json:"published"`
	PublishedPerSecond  float64 `json:"publishedPerSecond"`
	Deliveries          uint64  `json:"deliveries"`
	DeliveriesPerSecond float64 `json:"deliveriesPerSecond"`
	DeliveriesPerCPU    float64 `json:"deliveriesPerCpuSecond,omitempty"` // of the processes of the service
	MessagesPerRead     float64 `json:"messagesPerRead"`                  // of the load generator: at least what a write of the server held
	BytesPerSecond      float64 `json:"bytesPerSecond"`
}

func newTraffic(published uint64, c counts, u Usage) Traffic {
	t := Traffic{
		Published: published, PublishedPerSecond: float64(published) / u.Seconds,
		Deliveries: c.deliveries, DeliveriesPerSecond: float64(c.deliveries) / u.Seconds,
		BytesPerSecond: float64(c.bytes) / u.Seconds,
	}
	if u.CPU > 0 {
		t.DeliveriesPerCPU = float64(c.deliveries) / u.CPU
	}
	if c.reads > 0 {
		t.MessagesPerRead = float64(c.deliveries) / float64(c.reads)
	}
	return t
}

// Probe is how a room with one socket fared alone and beside the load.
type Probe struct {
	Rate   float64 `json:"rate"`
	Alone  Latency `json:"alone"`
	Beside Latency `json:"beside"`
	Ratio  float64 `json:"p99Ratio"` // beside to alone
}
