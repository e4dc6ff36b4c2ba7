package admin

import "time"

// APIVersion is in every document.
const APIVersion = "naru/v1"

// Head is what every document begins with.
type Head struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
}

// NewHead returns the head of a document.
func NewHead(kind string) Head { return Head{kind, APIVersion} }

// The words of Status.Health and Service.State.
const (
	OK       = "ok"       // every service can be used
	Degraded = "degraded" // one of them cannot
	Up       = "up"       // a backend takes new connections
	Down     = "down"     // none does; of a node: no service can be used
)

// Status is the document of GET /v1/status.
type Status struct {
	Head
	Node    string  `json:"node"`
	Version string  `json:"version"`
	PID     int     `json:"pid"`
	Health  string  `json:"health"`
	Config  Config  `json:"config"`
	Summary Summary `json:"summary"`

	Started time.Time `json:"started"`
	Uptime  float64   `json:"uptime_seconds"`

	Connections Connections `json:"connections"`
	Packets     Packets     `json:"packets"`
	Reasons     []Reason    `json:"reasons"` // of packets that were not transmitted; those that occurred
	Interfaces  []Interface `json:"interfaces"`
	Workers     []Worker    `json:"workers"`
	Ports       []Ports     `json:"ports"` // pools of local ports, the fullest first
	Services    []Service   `json:"services"`
	Hints       []string    `json:"hints"`
	FlowLog     *FlowLog    `json:"flow_log,omitempty"` // absent when there is none
}

// FlowLog is what has become of the lines of the flow log.
type FlowLog struct {
	To      string `json:"to"` // a path, or syslog
	Written uint64 `json:"written"`
	Lost    uint64 `json:"lost"` // beyond the rate, or could not be written
}

// Config is the configuration that is in force.
type Config struct {
	File     string    `json:"file"`
	Loaded   time.Time `json:"loaded"`
	Revision uint64    `json:"revision"` // counts from 1
	// Error is why the last reload was refused; empty after one that was not.
	Error     string     `json:"error,omitempty"`
	ErrorTime *time.Time `json:"error_time,omitempty"`
}

// Summary counts services and backends.
type Summary struct {
	Services   int `json:"services"`
	ServicesUp int `json:"services_up"`
	Backends   int `json:"backends"`
	BackendsUp int `json:"backends_up"`
}

// Connections are those of the tables of all workers.
type Connections struct {
	Active   uint64 `json:"active"`
	Capacity uint64 `json:"capacity"`
	Made     uint64 `json:"made"`
	Ended    uint64 `json:"ended"`
	Evicted  uint64 `json:"evicted"` // closed ones and unproven ones that made room
}

// Packets are counted once, at their verdict: received is the sum of the others.
type Packets struct {
	Received    uint64 `json:"received"`
	Transmitted uint64 `json:"transmitted"`
	Consumed    uint64 `json:"consumed"`
	Passed      uint64 `json:"passed"`
	Dropped     uint64 `json:"dropped"`
	Held        uint64 `json:"held"`
	Balanced    bool   `json:"balanced"`
}

// Reason is why packets were not transmitted.
type Reason struct {
	Reason  string  `json:"reason"`
	Verdict string  `json:"verdict"`
	Packets uint64  `json:"packets"`
	Rate    float64 `json:"per_second"`
	Advice  string  `json:"advice"`
	Fix     string  `json:"fix,omitempty"` // what to do about it

	// Only in Drops.
	Last    *time.Time   `json:"last,omitempty"`
	Samples []DropSample `json:"samples,omitempty"` // the last packets, oldest first
}

// DropSample is a packet that was dropped a while ago, as naru had it then.
type DropSample struct {
	At        time.Time `json:"at"`
	Interface string    `json:"interface"`
	Packet    string    `json:"packet"` // in a line
	Length    int       `json:"length"` // bytes of the frame
	Hex       string    `json:"hex,omitempty"`
}

// Interface is one leg, over all workers.
type Interface struct {
	Name        string `json:"name"`
	Side        string `json:"side"`
	Driver      string `json:"driver"`
	MAC         string `json:"mac"`
	MTU         int    `json:"mtu"`
	Up          bool   `json:"up"`
	RxFrames    uint64 `json:"rx_frames"`
	RxBytes     uint64 `json:"rx_bytes"`
	RxMissed    uint64 `json:"rx_missed"` // dropped by the kernel before naru saw them
	RxTruncated uint64 `json:"rx_truncated"`
	TxFrames    uint64 `json:"tx_frames"`
	TxBytes     uint64 `json:"tx_bytes"`
	TxDropped   uint64 `json:"tx_dropped"`
	Rings       *Rings `json:"rings,omitempty"` // with io.driver xdp only
}

// Rings are the kernel's counters of the rings of AF_XDP, struct xdp_statistics: frames, but where another thing is said.
type Rings struct {
	RxDropped uint64 `json:"rx_dropped"`      // no memory to receive into, or too long for it
	RxFull    uint64 `json:"rx_ring_full"`    // naru did not keep up
	RxInvalid uint64 `json:"rx_invalid"`      // places to receive into that the kernel refused
	FillEmpty uint64 `json:"fill_ring_empty"` // times
	TxInvalid uint64 `json:"tx_invalid"`
	TxEmpty   uint64 `json:"tx_ring_empty"` // times
	Queues    int    `json:"queues"`        // receive queues that naru serves
	QueuesNow int    `json:"queues_now"`    // receive queues that the interface has now
}

// Worker is one engine.
type Worker struct {
	Worker      int    `json:"worker"`
	CPU         int    `json:"cpu"` // the processor it is bound to; -1: none
	Connections uint64 `json:"connections"`
	Capacity    uint64 `json:"capacity"`
	Received    uint64 `json:"received"`
	Transmitted uint64 `json:"transmitted"`
	Dropped     uint64 `json:"dropped"`
	HandedOver  uint64 `json:"handed_over"` // to the worker whose connection a packet is of
	TakenOver   uint64 `json:"taken_over"`
}

// Ports is a pool of local ports: of a local address towards one backend, over all workers.
type Ports struct {
	Service string `json:"service"` // the first that draws from it
	Backend string `json:"backend"`
	Local   string `json:"local"`
	Size    int    `json:"size"`
	Free    int    `json:"free"`
	// Exhausted is how many seconds the free ports last if they go on going as fast as now; absent if they do not go.
	Exhausted *float64 `json:"exhausted_in_seconds,omitempty"`
}

// Service is one service with its backends; its figures are their sums.
type Service struct {
	Service   string    `json:"service"`
	VIP       string    `json:"vip"`
	Ports     []string  `json:"ports"`
	Protocol  string    `json:"protocol"`
	Mode      string    `json:"mode"`
	Encap     string    `json:"encap,omitempty"`
	Scheduler string    `json:"scheduler"`
	State     string    `json:"state"`
	Backends  []Backend `json:"backends"`
	Traffic
}

// Backend is one server of a service.
type Backend struct {
	Backend string `json:"backend"`
	Address string `json:"address"`
	Port    int    `json:"port"` // 0: the client's destination port
	State   string `json:"state"`
	Why     string `json:"why,omitempty"`
	// Since is when it came into this state.
	Since      time.Time `json:"since"`
	Health     string    `json:"health"` // unknown, healthy, failed
	Weight     int       `json:"weight"`
	Configured int       `json:"configured_weight"`
	// Operator says that an order of an operator is in force.
	Operator bool `json:"operator"`
	// SlowStart is the part of its weight that it gets, from 0 to 1.
	SlowStart float64 `json:"slow_start"`
	// Share is the part of the service's weight that is its, from 0 to 1.
	Share float64 `json:"share"`
	// Deadline is in how many seconds draining ends its connections; absent without a deadline.
	Deadline *float64 `json:"deadline_seconds,omitempty"`
	// Removed says that the configuration names it no more, and its connections go on.
	Removed bool `json:"removed,omitempty"`
	Traffic
}

// Traffic is what was carried since naru's start, and is carried now. In direct server return nothing is known of the way
// back, and the fields about it are absent.
type Traffic struct {
	Active   uint64  `json:"connections"`
	Made     uint64  `json:"connections_made"`
	In       Flow    `json:"in"`            // from the clients
	Out      *Flow   `json:"out,omitempty"` // to the clients
	NewRate  float64 `json:"connections_per_second"`
	InRate   Rate    `json:"in_rate"`
	OutRate  *Rate   `json:"out_rate,omitempty"`
	OneSided bool    `json:"one_sided"` // direct server return
}

// Flow counts IP packets.
type Flow struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Rate is a Flow a second.
type Rate struct {
	Packets float64 `json:"packets_per_second"`
	Bits    float64 `json:"bits_per_second"`
}

// ServiceDocument is the document of GET /v1/services/{service}.
type ServiceDocument struct {
	Head
	Service
}

// Services is the document of GET /v1/services.
type Services struct {
	Head
	Services []Service `json:"services"`
}

// Drops is the document of GET /v1/drops: the reasons whose verdict is drop. That of GET /v1/drops/{reason} is of one
// reason, whatever its verdict, and its samples have the beginning of the frames.
type Drops struct {
	Head
	Received    uint64   `json:"received"`
	Transmitted uint64   `json:"transmitted"`
	Consumed    uint64   `json:"consumed"`
	Passed      uint64   `json:"passed"`
	Dropped     uint64   `json:"dropped"`
	Held        uint64   `json:"held"`
	Balanced    bool     `json:"balanced"`
	Missed      uint64   `json:"kernel_missed"` // dropped by the kernel before naru saw them, not among received
	Reasons     []Reason `json:"reasons"`
}

// StateOrder is the document of POST /v1/backends/{service}/{backend}/state.
type StateOrder struct {
	State    string  `json:"state"` // ready, drain or disable
	Deadline float64 `json:"deadline_seconds,omitempty"`
}

// WeightOrder is the document of PUT /v1/backends/{service}/{backend}/weight.
type WeightOrder struct {
	Weight *int `json:"weight"`
}

// BackendDocument is the answer to an order: the backend as it is now.
type BackendDocument struct {
	Head
	Service string `json:"service"`
	Backend
}

// ConfigText is what POST /v1/config:check takes, and POST /v1/config:apply too.
type ConfigText struct {
	// Text is the configuration; empty: the file that naru was started with is read again.
	Text string `json:"text,omitempty"`
	// Reset takes back the orders of operators.
	Reset bool `json:"reset,omitempty"`
}

// ConfigResult is the answer of POST /v1/config:check and POST /v1/config:apply.
type ConfigResult struct {
	Head
	File     string    `json:"file"`
	Services int       `json:"services"`
	Backends int       `json:"backends"`
	Revision uint64    `json:"revision"` // in force afterwards
	Changes  []string  `json:"changes"`
	Warnings []Mistake `json:"warnings"`
}
