package schedbench

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"naru/forwarder"
	"naru/internal/roster"
	"naru/internal/wire"
	"naru/sched"
)

// Backend is a server of the bench.
type Backend struct {
	Name   string        `json:"name"`
	Weight uint32        `json:"weight"`
	Factor float64       `json:"factor"`          // how much longer connections last there
	Join   time.Duration `json:"join,omitempty"`  // when it comes into service, in nanoseconds
	Leave  time.Duration `json:"leave,omitempty"` // when it gets no new connections any more; 0: never
}

// Setup is a way of choosing.
type Setup struct {
	Name      string
	Options   sched.Options
	SlowStart time.Duration
	// Linger is how much longer a connection is counted than it lasts, if it is among the Silent part, from 0 to 1: as in
	// direct server return when the client goes without a word.
	Linger time.Duration
	Silent float64
}

// Input is what all schedulers of a bench have to do with.
type Input struct {
	Backends []Backend
	Arrivals []Arrival
	Clients  int           // numbers of clients are below it
	Bucket   time.Duration // of the series
	End      time.Duration
}

// Bucket is what happened at the backends in a part of the time, each in the order of the backends.
type Bucket struct {
	At     time.Duration `json:"at"`
	New    []int         `json:"new"`    // connections that came
	Active []int         `json:"active"` // connections at its end
}

// simulation is one setup at work.
type simulation struct {
	in     *Input
	setup  *Setup
	roster roster.Roster
	list   []sched.Backend
	sched  sched.Scheduler
	ends   endings
	change []time.Duration // when backends come and go, in order
	step   time.Duration   // when the roster changes by itself; 0: not at all

	active []int // true counts
	out    *Result
	bucket Bucket
}

// Run gives the input to one setup.
func Run(in *Input, setup *Setup) *Result {
	s := &simulation{in: in, setup: setup, active: make([]int, len(in.Backends)), out: newResult(in, setup)}
	for _, b := range in.Backends {
		s.list = append(s.list, sched.Backend{Name: b.Name, Load: new(sched.Load)})
		for _, t := range []time.Duration{b.Join, b.Leave} {
			if t > 0 {
				s.change = append(s.change, t)
			}
		}
	}
	slices.Sort(s.change)
	s.bucket = s.newBucket(0)
	s.reload(0)
	for i := range in.Arrivals {
		a := &in.Arrivals[i]
		s.until(a.At)
		s.arrive(a, uint32(i))
	}
	s.until(in.End)
	s.out.finish(s)
	return s.out
}

func (s *simulation) newBucket(at time.Duration) Bucket {
	return Bucket{At: at, New: make([]int, len(s.active)), Active: make([]int, len(s.active))}
}

// until lets everything happen that happens before a time, in order.
func (s *simulation) until(t time.Duration) {
	for {
		next, what := t, 0
		if len(s.ends) > 0 && s.ends[0].at <= next {
			next, what = s.ends[0].at, 1
		}
		if end := s.bucket.At + s.in.Bucket; end <= next {
			next, what = end, 2
		}
		if s.step != 0 && s.step <= next {
			next, what = s.step, 3
		}
		if len(s.change) > 0 && s.change[0] <= next {
			next, what = s.change[0], 4
		}
		switch what {
		case 0:
			return
		case 1:
			s.end()
		case 2:
			copy(s.bucket.Active, s.active)
			s.out.add(s.bucket)
			s.bucket = s.newBucket(next)
		case 3:
			s.build(next)
		case 4:
			s.change = s.change[1:]
			s.reload(next)
		}
	}
}

func (s *simulation) end() {
	e := s.ends.pop()
	if e.what&itself != 0 {
		s.active[e.backend]--
	}
	if e.what&itsCount != 0 {
		s.list[e.backend].Active.Add(-1)
	}
}

// reload tells the roster who is there, and what that changes for clients.
func (s *simulation) reload(now time.Duration) {
	var members []roster.Member
	for _, b := range s.in.Backends {
		m := roster.Member{Key: roster.Key{Service: "bench", Backend: b.Name}, Weight: b.Weight, SlowStart: s.setup.SlowStart}
		if b.Leave > 0 && now >= b.Leave {
			m.Weight = 0
		}
		if now >= b.Join {
			members = append(members, m)
		}
	}
	var before []int32
	hashes := s.setup.Options.Kind.Hashes()
	if s.sched != nil && hashes {
		before = s.homes(s.sched)
	}
	s.roster.Configure(wire.Time(now), members)
	s.build(now)
	if before != nil {
		settled := s.list
		s.list = slices.Clone(s.list)
		for i := range s.list {
			s.list[i].Share = 0
		}
		s.out.moved(before, s.homes(sched.New(s.setup.Options, s.list, s.sched)))
		s.list = settled
	}
}

// build makes the scheduler for the state of the roster.
func (s *simulation) build(now time.Duration) {
	s.roster.Advance(wire.Time(now))
	for i := range s.list {
		s.list[i].Weight = 0
		st, there := s.roster.Find(roster.Key{Service: "bench", Backend: s.list[i].Name})
		if there && st.State == forwarder.Up {
			s.list[i].Weight, s.list[i].Share = st.Weight, st.Share
		}
	}
	s.list = slices.Clone(s.list)
	s.sched = sched.New(s.setup.Options, s.list, s.sched)
	s.step = 0
	if at, ok := s.roster.Next(); ok {
		s.step = time.Duration(at)
	}
}

// homes returns where each client's hash leads to.
func (s *simulation) homes(by sched.Scheduler) []int32 {
	at := make([]int32, s.in.Clients)
	for c := range at {
		at[c] = int32(by.Stateless(hashOf(uint32(c))))
	}
	return at
}

// hashOf is the hash of a client, as of its address.
func hashOf(client uint32) uint64 {
	var b [16]byte
	binary.BigEndian.PutUint32(b[12:], client)
	return sched.SipHash([2]uint64{1, 2}, b[:])
}

func (s *simulation) arrive(a *Arrival, number uint32) {
	b := s.sched.Pick(hashOf(a.Client))
	if b < 0 {
		s.out.Refused++
		return
	}
	s.active[b]++
	s.bucket.New[b]++
	s.out.chosen(s, b, a.At)
	end := a.At + time.Duration(float64(a.Lasts)*s.in.Backends[b].Factor)
	if s.setup.Linger == 0 || float64(hashOf(number))/math.MaxUint64 >= s.setup.Silent {
		s.ends.push(ending{end, int32(b), itself | itsCount})
		return
	}
	s.ends.push(ending{end, int32(b), itself})
	s.ends.push(ending{end + s.setup.Linger, int32(b), itsCount})
}

// SortArrivals puts connections into the order of time.
func SortArrivals(as []Arrival) {
	slices.SortStableFunc(as, func(a, b Arrival) int { return cmp.Compare(a.At, b.At) })
}
