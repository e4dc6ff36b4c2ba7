package schedbench

import (
	"fmt"
	"time"

	"naru/sched"
)

// Scenario is a known fault of schedulers as a load, with those that have it and those that answer it.
type Scenario struct {
	Name   string
	Words  string // what it shows
	Load   Load
	Setups []Setup
	// Backends are those of the scenario.
	Backends []Backend
	// Series is what the chart draws: "active" or "new" over time, or "load" as bars; "table" is that of Table.
	Series string
}

// Equal returns so many backends of weight 1.
func Equal(n int) []Backend {
	bs := make([]Backend, n)
	for i := range bs {
		bs[i] = Backend{Name: fmt.Sprintf("b%d", i+1), Weight: 1, Factor: 1}
	}
	return bs
}

func setup(name string) Setup {
	k, _ := sched.Parse(name)
	return Setup{Name: name, Options: sched.Options{Kind: k, Seed: 1, Key: [2]uint64{1, 2}}}
}

func (s Setup) bounded(by float64) Setup {
	s.Name += fmt.Sprintf(" bounded %.2f", by)
	s.Options.Bounded = uint32(by * sched.ShareAll)
	return s
}

func (s Setup) slow(d time.Duration) Setup {
	s.Name += fmt.Sprintf(" slow start %s", d)
	s.SlowStart = d
	return s
}

// Scenarios returns the four faults.
func Scenarios() []Scenario {
	slow := Equal(4)
	slow[3].Factor = 10
	joins := Equal(4)
	joins[3].Join = 30 * time.Second
	return []Scenario{
		{
			Name: "slow-backend", Words: "round robin goes on giving to a backend that is ten times slower", Series: "active",
			Load:     Load{Rate: 400, Duration: time.Minute, Service: "exp", Mean: time.Second, Clients: 10000, Seed: 1},
			Backends: slow, Setups: []Setup{setup("rr"), setup("lc"), setup("twos"), setup("mh"), setup("mh").bounded(1.25)},
		},
		{
			Name: "newcomer", Words: "least connections floods a backend that joins, and slow start does not let it", Series: "new",
			Load:     Load{Rate: 1000, Duration: 90 * time.Second, Service: "exp", Mean: 10 * time.Second, Clients: 100000, Seed: 1},
			Backends: joins, Setups: []Setup{setup("lc"), setup("lc").slow(30 * time.Second), setup("rr"),
				setup("rr").slow(30 * time.Second), setup("mh"), setup("mh").slow(30 * time.Second)},
		},
		{
			Name: "heavy-sources", Words: "a hash of the source piles up where a few heavy clients are", Series: "load",
			Load: Load{Rate: 1000, Duration: time.Minute, Service: "exp", Mean: 2 * time.Second, Clients: 100000,
				Heavy: 0.6, HeavyClients: 3, Seed: 1},
			Backends: Equal(8), Setups: []Setup{setup("sh"), setup("sh").bounded(1.25), setup("mh"), setup("mh").bounded(1.25),
				setup("lc")},
		},
		{Name: "maglev", Words: "the balance of Maglev's table against its size, and what moves when backends leave", Series: "table"},
	}
}

// FindScenario returns the scenario of a name.
func FindScenario(name string) (Scenario, bool) {
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// buckets is how many parts of time a series has.
const buckets = 120

// Input makes the input of the scenario.
func (s *Scenario) Input() (*Input, error) {
	as, err := s.Load.Arrivals()
	if err != nil {
		return nil, err
	}
	return &Input{Backends: s.Backends, Arrivals: as, Clients: s.Load.Clients, Bucket: max(1, s.Load.Duration/buckets),
		End: s.Load.Duration}, nil
}
