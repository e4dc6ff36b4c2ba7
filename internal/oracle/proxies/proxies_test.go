package proxies

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"naru/sched"
)

// firstPort is that of the first service.
const firstPort = 10000

// hashKey is any key: what the hashes choose depends on it, and nothing that is compared does.
var hashKey = [2]uint64{1, 2}

// naru is package sched with the same servers.
type naru struct {
	sched.Scheduler
	list []sched.Backend
}

func newNaru(kind string, weights []uint32) *naru {
	k, known := sched.Parse(kind)
	if !known {
		panic(kind)
	}
	n := &naru{}
	for i, w := range weights {
		n.list = append(n.list, sched.Backend{Name: serverAddr(i), Weight: w, Load: new(sched.Load)})
	}
	n.Scheduler = sched.New(sched.Options{Kind: k, Key: hashKey}, n.list, nil)
	return n
}

// choices are n, of connections that stay.
func (n *naru) choices(count int) (who []int) {
	for range count {
		who = append(who, n.Pick(0))
	}
	return who
}

// letters writes choices as servers A, B, C and so on.
func letters(choices []int) string {
	b := make([]byte, len(choices))
	for i, c := range choices {
		b[i] = byte('A' + c)
	}
	return string(b)
}

func tally(choices []int, n int) []int {
	counts := make([]int, n)
	for _, c := range choices {
		counts[c]++
	}
	return counts
}

func sum(weights []uint32) (n int) {
	for _, w := range weights {
		n += int(w)
	}
	return n
}

// weightSets are those of the other comparisons.
var weightSets = [][]uint32{{1, 1, 1, 1}, {4, 3, 2}, {5, 1, 1}, {1, 2, 3}, {10, 5}}

// servicesOf is a service for each set of weights.
func servicesOf(balance string) (list []service) {
	for i, weights := range weightSets {
		list = append(list, service{firstPort + i, balance, weights})
	}
	return list
}

// TestTurnsOfProxies: by equal weights the turn is naru's. By others the shares of each period are, and the order is that of
// the smooth rule with both, where naru has IPVS's.
func TestTurnsOfProxies(t *testing.T) {
	balance := map[string]string{"haproxy": "balance roundrobin", "nginx": ""}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			r := newRig(t)
			list := servicesOf(balance[p.name])
			r.start(t, p, list)
			for _, s := range list {
				period := sum(s.weights)
				theirs, _ := r.choices(s.port, 3*period, false)
				rr, wrr := newNaru("rr", s.weights).choices(3*period), newNaru("wrr", s.weights).choices(3*period)
				t.Logf("%v: %s %s, wrr %s", s.weights, p.name, letters(theirs[:period]), letters(wrr[:period]))
				for at := 0; at < len(theirs); at += period {
					got, want := tally(theirs[at:at+period], len(s.weights)), tally(wrr[at:at+period], len(s.weights))
					if !slices.Equal(got, want) {
						t.Errorf("%v: period from %d: %v, naru %v", s.weights, at, got, want)
					}
				}
				if slices.Min(s.weights) == slices.Max(s.weights) && !rotated(theirs, rr) {
					t.Errorf("%v: %s, naru's rr %s", s.weights, letters(theirs), letters(rr))
				}
				if smooth := smoothly(s.weights, len(theirs)); p.name == "nginx" && !slices.Equal(theirs, smooth) {
					t.Errorf("%v: %s, by the smooth rule %s", s.weights, letters(theirs), letters(smooth))
				}
			}
		})
	}
}

// rotated reports whether two lists that repeat themselves are the same from some place on.
func rotated(a, b []int) bool {
	for at := range b {
		if slices.Equal(a, append(slices.Clone(b[at:]), b[:at]...)) {
			return true
		}
	}
	return false
}

// smoothly is the smooth weighted round robin of nginx: each gains its weight, who has most is chosen and loses the sum.
func smoothly(weights []uint32, n int) (who []int) {
	have := make([]int, len(weights))
	for range n {
		best := 0
		for i, w := range weights {
			if have[i] += int(w); have[i] > have[best] {
				best = i
			}
		}
		have[best] -= sum(weights)
		who = append(who, best)
	}
	return who
}

// leastOf are who has the least load by the rule of each program, and by naru's scheduler of the same rule.
var leastOf = map[string]struct {
	balance, ours string
	load          func(connections int, weight uint32) float64
}{
	"haproxy": {"balance leastconn", "nq", func(n int, w uint32) float64 {
		if n == 0 {
			return 0
		}
		return float64(n+1) / float64(w)
	}},
	"nginx": {"least_conn", "wlc", func(n int, w uint32) float64 { return float64(n) / float64(w) }},
}

// TestLeastConnectionsOfProxies holds connections: each goes to a server with the least load by the rule of the program, with
// naru's scheduler of that rule too, and the counts are the same after each period. A server that loses all of its
// connections gets all the next.
func TestLeastConnectionsOfProxies(t *testing.T) {
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			r, least := newRig(t), leastOf[p.name]
			list := servicesOf(least.balance)
			dir := r.start(t, p, list)
			for _, s := range list {
				n, period := len(s.weights), sum(s.weights)
				theirs, held := r.choices(s.port, 4*period, true)
				ours := newNaru(least.ours, s.weights).choices(len(theirs))
				t.Logf("%v: %s %s, %s %s", s.weights, p.name, letters(theirs), least.ours, letters(ours))
				for name, who := range map[string][]int{p.name: theirs, least.ours: ours} {
					if at := notLeast(who, s.weights, least.load); at >= 0 {
						t.Errorf("%v: %s: %s: choice %d is not by the rule", s.weights, name, letters(who), at+1)
					}
				}
				for at := period; at <= len(theirs); at += period {
					if got, want := tally(theirs[:at], n), tally(ours[:at], n); !slices.Equal(got, want) {
						t.Errorf("%v: after %d connections %v, naru %v", s.weights, at, got, want)
					}
				}
				r.closeAll(held, func(c connection) bool { return c.server == 1 })
				if p.name == "haproxy" {
					awaitForgotten(t, dir, s.port, 1)
				}
				next, more := r.choices(s.port, tally(theirs, n)[1]-1, true)
				if got := tally(next, n); got[1] != len(next) {
					t.Errorf("%v: all connections of B were closed, the next are %s", s.weights, letters(next))
				}
				r.closeAll(append(held, more...), func(connection) bool { return true })
			}
		})
	}
}

// notLeast returns the first choice of a server that had not the least load, -1 if there is none.
func notLeast(who []int, weights []uint32, load func(int, uint32) float64) int {
	counts := make([]int, len(weights))
	for at, chosen := range who {
		for i, w := range weights {
			if load(counts[i], w) < load(counts[chosen], weights[chosen]) {
				return at
			}
		}
		counts[chosen]++
	}
	return -1
}

// population is how many clients the hashes are asked about.
const population = 400

// clientAddress is a client's, all of them this host's.
func clientAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + i/200), byte(i * 37 % 251), byte(1 + i%200)})
}

// TestSourceHashOfProxies: one client always has one server, with each of them and with naru. The log has the spread, and who
// moves when the last of the list goes that was not theirs.
func TestSourceHashOfProxies(t *testing.T) {
	for _, c := range []struct{ program, balance string }{
		{"haproxy", "balance source"}, {"haproxy", "balance source;hash-type consistent"},
		{"nginx", "hash $remote_addr"}, {"nginx", "hash $remote_addr consistent"},
	} {
		t.Run(c.program+" "+strings.ReplaceAll(c.balance, " ", "_"), func(t *testing.T) {
			r := newRig(t)
			var list []service
			for i, weights := range [][]uint32{{1, 1, 1, 1, 1}, {1, 1, 1, 1}, {4, 3, 2}, {4, 3}} {
				list = append(list, service{firstPort + i, c.balance, weights})
			}
			p := programs[slices.IndexFunc(programs, func(p program) bool { return p.name == c.program })]
			r.start(t, p, list)
			for i := 0; i < len(list); i += 2 {
				all, less := r.byClient(list[i].port), r.byClient(list[i+1].port)
				gone := len(list[i+1].weights)
				t.Logf("%v: %v, %d moved%s", list[i].weights, tally(all, gone+1), moved(all, less, gone),
					ofNaru(t, list[i].weights))
			}
		})
	}
}

// byClient returns the server of each client. Every eighth asks twice, and must have the same one.
func (r *rig) byClient(port int) []int {
	r.t.Helper()
	who := make([]int, population)
	r.ns.Do(r.t, func() {
		ask := func(i int) int {
			c := r.connect(port, clientAddress(i))
			c.Close()
			return c.server
		}
		for i := range who {
			who[i] = ask(i)
		}
		for i := 0; i < len(who); i += 8 {
			if now := ask(i); now != who[i] {
				r.t.Errorf("client %v had server %d and has %d", clientAddress(i), who[i], now)
			}
		}
	})
	return who
}

// moved counts the clients with another server, but for those of the one that is gone.
func moved(before, after []int, gone int) (n int) {
	for i := range before {
		if before[i] != gone && before[i] != after[i] {
			n++
		}
	}
	return n
}

// ofNaru is the same of naru's hashes, in text.
func ofNaru(t *testing.T, weights []uint32) (text string) {
	t.Helper()
	for _, kind := range []string{"sh", "mh"} {
		var who [2][]int
		for k, w := range [][]uint32{weights, weights[:len(weights)-1]} {
			n := newNaru(kind, w)
			for i := range population {
				a := clientAddress(i).As4()
				hash := sched.SipHash(hashKey, a[:])
				who[k] = append(who[k], n.Pick(hash))
				if again := n.Pick(hash); again != who[k][i] {
					t.Errorf("%s: client %d had server %d and has %d", kind, i, who[k][i], again)
				}
			}
		}
		gone := len(weights) - 1
		text += fmt.Sprintf("; %s %v, %d moved", kind, tally(who[0], len(weights)), moved(who[0], who[1], gone))
	}
	return text
}
