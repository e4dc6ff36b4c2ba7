package schedbench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Arrival is a connection to come.
type Arrival struct {
	At     time.Duration // since the start
	Lasts  time.Duration // at a backend of factor 1
	Client uint32        // number of the client
}

// Load says what connections there are.
type Load struct {
	Rate     float64       `json:"rate"`     // new connections a second
	Duration time.Duration `json:"duration"` // how long they come, in nanoseconds
	Service  string        `json:"service"`  // how long they last: "exp", "fixed" or "pareto" (shape 1.5)
	Mean     time.Duration `json:"mean"`     // in the mean, in nanoseconds
	Clients  int           `json:"clients"`
	// Heavy is the part of all connections that come from the first HeavyClients clients, as from behind a NAT.
	Heavy        float64 `json:"heavy"`
	HeavyClients int     `json:"heavy_clients"`
	Seed         uint64  `json:"seed"`
}

// Services are the distributions of how long connections last.
func Services() []string { return []string{"exp", "fixed", "pareto"} }

// paretoShape makes a heavy tail with a mean: most of the work is in few connections.
const paretoShape = 1.5

// maxArrivals bounds the memory of a load, 24 bytes each.
const maxArrivals = 50_000_000

// Arrivals makes the connections of a load: they come independently of each other (a Poisson process).
func (l *Load) Arrivals() ([]Arrival, error) {
	switch n := l.Rate * l.Duration.Seconds(); {
	case !(l.Rate > 0) || l.Duration <= 0 || l.Mean <= 0 || l.Clients < 1:
		return nil, fmt.Errorf("schedbench: rate, duration, mean and clients must be above 0")
	case l.Heavy < 0 || l.Heavy > 1 || l.Heavy > 0 && (l.HeavyClients < 1 || l.HeavyClients > l.Clients):
		return nil, fmt.Errorf("schedbench: the heavy part must be from 0 to 1, of 1 to %d clients", l.Clients)
	case !slices.Contains(Services(), l.Service):
		return nil, fmt.Errorf("schedbench: %q is no distribution", l.Service)
	case n > maxArrivals:
		return nil, fmt.Errorf("schedbench: %.0f connections are too many, at most %d", n, maxArrivals)
	}
	rng := rand.New(rand.NewPCG(l.Seed, 0x6e617275))
	out := make([]Arrival, 0, int(l.Rate*l.Duration.Seconds()*1.01)+16)
	for at := 0.0; ; {
		at += rng.ExpFloat64() / l.Rate
		if at >= l.Duration.Seconds() {
			return out, nil
		}
		a := Arrival{At: time.Duration(at * float64(time.Second)), Lasts: l.lasts(rng)}
		if l.Heavy > 0 && rng.Float64() < l.Heavy {
			a.Client = uint32(rng.IntN(l.HeavyClients))
		} else {
			a.Client = uint32(rng.IntN(l.Clients))
		}
		out = append(out, a)
	}
}

func (l *Load) lasts(rng *rand.Rand) time.Duration {
	x := 1.0
	switch l.Service {
	case "exp":
		x = rng.ExpFloat64()
	case "pareto":
		x = (paretoShape - 1) / paretoShape * math.Pow(1-rng.Float64(), -1/paretoShape)
	}
	return time.Duration(x * float64(l.Mean))
}
