package forwarder

import "time"

// Hash says what of a connection the schedulers that hash look at.
type Hash uint8

// What is hashed.
const (
	HashSource     Hash = iota // the client's address
	HashTuple                  // both addresses and ports, and the protocol
	HashSourcePort             // the client's address and port
	HashDest                   // the VIP and the port
)

// Choice is how a service's new connections find their backends, beyond the name of the scheduler. The zero value sets
// nothing.
type Choice struct {
	Hash      Hash
	Bounded   uint32 // as in sched.Options
	TableSize int    // likewise
	// MaxConnections is the most connections of the service; 0: no limit.
	MaxConnections int
	// RefuseFull says to refuse a connection when the backend that was chosen for it has as many as it may have, instead
	// of choosing another one.
	RefuseFull bool
	Affinity   Affinity
}

// Affinity sends a client to the backend that it was sent to before, as long as that takes new connections.
type Affinity struct {
	Timeout          time.Duration // from the client's last new connection; 0: no affinity
	Prefix4, Prefix6 int           // clients whose addresses agree in so many bits are one client
	Clients          int           // for how many there is room; 0: 65536
}
