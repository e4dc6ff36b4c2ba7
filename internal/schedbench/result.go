package schedbench

import (
	"runtime"
	"slices"
	"time"

	"naru/sched"
)

// Result is what one setup made of the input.
type Result struct {
	Name      string `json:"name"`
	Scheduler string `json:"scheduler"`
	// NewMaxMean and NewJain compare the connections that backends got, for their weight and the time that they were in
	// service: the greatest over the mean, and Jain's index (1: all alike; 1/n: one has all).
	NewMaxMean float64 `json:"new_max_mean"`
	NewJain    float64 `json:"new_jain"`
	// LoadMaxMean and LoadJain compare the connections that they had in the mean.
	LoadMaxMean float64 `json:"load_max_mean"`
	LoadJain    float64 `json:"load_jain"`
	// JoinPeak is the most connections that a joining backend had, JoinRate the most that it got in one second.
	JoinPeak int `json:"join_peak"`
	JoinRate int `json:"join_rate"`
	// Moved is the part of the clients whose backend changed, over all changes, of schedulers that hash; Least is the part
	// that had to. Of the others neither is known.
	Moved   float64 `json:"moved"`
	Least   float64 `json:"least"`
	Hashes  bool    `json:"hashes"`
	Refused int     `json:"refused"`
	// CountError is the greatest error of a backend's count at the end of a bucket, in parts of the mean count.
	CountError float64       `json:"count_error"`
	PerChoice  time.Duration `json:"ns_per_choice"` // on this machine
	Memory     int           `json:"memory_bytes"`
	Total      []int         `json:"total"` // connections that each backend got
	Buckets    []Bucket      `json:"buckets"`

	in      *Input
	active  []float64     // sums over buckets
	present []int         // buckets
	second  time.Duration // the one that rate counts
	rate    []int
}

func newResult(in *Input, setup *Setup) *Result {
	n := len(in.Backends)
	return &Result{Name: setup.Name, Scheduler: setup.Options.Kind.String(), Hashes: setup.Options.Kind.Hashes(), in: in,
		Total: make([]int, n), active: make([]float64, n), present: make([]int, n), rate: make([]int, n)}
}

// there reports whether a backend is in service at a time.
func (b *Backend) there(at time.Duration) bool { return at >= b.Join && (b.Leave == 0 || at < b.Leave) }

func (r *Result) add(b Bucket) {
	r.Buckets = append(r.Buckets, b)
	for i := range b.Active {
		r.Total[i] += b.New[i]
		if r.in.Backends[i].there(b.At) {
			r.active[i] += float64(b.Active[i])
			r.present[i]++
		}
	}
}

// chosen looks at a connection to a backend that joined late.
func (r *Result) chosen(s *simulation, b int, at time.Duration) {
	if r.in.Backends[b].Join == 0 {
		return
	}
	if sec := at.Truncate(time.Second); sec != r.second {
		r.second = sec
		clear(r.rate)
	}
	r.rate[b]++
	r.JoinPeak, r.JoinRate = max(r.JoinPeak, s.active[b]), max(r.JoinRate, r.rate[b])
}

// moved compares where clients were with where they are once slow start is over.
func (r *Result) moved(before, after []int32) {
	n := 0
	sizes, now := make([]int, len(r.in.Backends)), make([]int, len(r.in.Backends))
	for c := range before {
		if before[c] != after[c] {
			n++
		}
		if before[c] >= 0 {
			sizes[before[c]]++
		}
		if after[c] >= 0 {
			now[after[c]]++
		}
	}
	least := 0
	for b := range sizes {
		if (sizes[b] == 0) != (now[b] == 0) {
			least += max(sizes[b], now[b])
		}
	}
	r.Moved += float64(n) / float64(len(before))
	r.Least += float64(least) / float64(len(before))
}

// finish works out the figures.
func (r *Result) finish(s *simulation) {
	var came, had []float64
	for i, b := range r.in.Backends {
		if b.Weight == 0 || r.present[i] == 0 {
			continue
		}
		time := float64(b.Weight) * float64(r.present[i])
		came, had = append(came, float64(r.Total[i])/time), append(had, r.active[i]/time)
	}
	r.NewMaxMean, r.NewJain = maxMean(came), Jain(came)
	r.LoadMaxMean, r.LoadJain = maxMean(had), Jain(had)
	mean, worst := 0.0, 0.0
	for i := range s.active {
		mean += float64(s.active[i]) / float64(len(s.active))
		worst = max(worst, float64(s.list[i].Active.Load()-int64(s.active[i])))
	}
	if mean > 0 {
		r.CountError = worst / mean
	}
	r.PerChoice, r.Memory = cost(s.setup.Options, s.list)
}

// maxMean is the greatest value over the mean, 1 of none.
func maxMean(xs []float64) float64 {
	sum, most := 0.0, 0.0
	for _, x := range xs {
		sum, most = sum+x, max(most, x)
	}
	if sum == 0 {
		return 1
	}
	return most * float64(len(xs)) / sum
}

// Jain is the index of fairness of Jain, Chiu and Hawe (DEC-TR-301, 1984): from 1/n, one has all, to 1, all have the same.
func Jain(xs []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, x := range xs {
		sum, squares = sum+x, squares+x*x
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (float64(len(xs)) * squares)
}

// cost measures the time of a choice, the median of some thousand at a time so that a pause of the machine does not count,
// and the memory of a scheduler.
func cost(o sched.Options, list []sched.Backend) (time.Duration, int) {
	own := make([]sched.Backend, len(list))
	for i, b := range list {
		own[i] = b
		own[i].Load = new(sched.Load)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := sched.New(o, own, nil)
	runtime.GC()
	runtime.ReadMemStats(&after)
	const atOnce, least, most = 1000, 7, 1000
	var took []time.Duration
	for start := time.Now(); len(took) < least || time.Since(start) < 5*time.Millisecond && len(took) < most; {
		began := time.Now()
		for k := range atOnce {
			s.Pick(uint64(len(took)*atOnce+k) * 0x9e3779b97f4a7c15)
		}
		took = append(took, time.Since(began))
	}
	runtime.KeepAlive(s)
	slices.Sort(took)
	return took[len(took)/2] / atOnce, max(0, int(after.HeapAlloc)-int(before.HeapAlloc))
}
