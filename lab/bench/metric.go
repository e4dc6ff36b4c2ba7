package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A Metric is one kind of traffic and what is measured of it.
type Metric struct {
	Name    string
	About   string
	figures []figure
	carries func(*System) bool
	run     func(ctx context.Context, m *measurement) error
}

// A figure is one number of a metric.
type figure struct {
	name, unit string
	less       bool // less is better
}

// A measurement is one metric through one system in one round.
type measurement struct {
	n       *network
	s       *System
	time    time.Duration // how long is measured
	warm    time.Duration // how long the traffic runs before
	flows   int
	many    int      // connections to measure the memory of
	control string   // congestion control of bulk streams; "": the kernel's own
	load    *float64 // packets a second beside round trips; 0 before the first system has been measured
	round   int
	pids    []int
	values  map[string]float64 // by the figure's name
	cpu     CPU
}

// floodFlows is how many connections a flood is of, unless the caller says another number.
const floodFlows = 1024

// manyFlows is how many connections the memory is measured of, unless the caller says another number.
const manyFlows = 1_000_000

// smallFrame is the size of a frame with 18 bytes of payload, which with its checksum is the least that Ethernet carries.
const (
	smallFrame = 60
	largeFrame = 1400
)

// Metrics returns all that can be measured.
func Metrics() []Metric {
	rate := func(name, unit string) []figure { return []figure{{name: name, unit: unit}} }
	anyone := func(*System) bool { return true }
	datagrams := func(s *System) bool { return s.udp }
	trips := []figure{{"p50", "us", true}, {"p99", "us", true}, {"p99.9", "us", true}}
	return []Metric{
		{"udp60", "UDP packets of 60 bytes that arrive at the servers, as many as one sender can", rate("rate", "packets/s"),
			datagrams, func(_ context.Context, m *measurement) error { return m.flood(smallFrame) }},
		{"udp1400", "UDP packets of 1400 bytes that arrive at the servers, as many as one sender can",
			rate("rate", "packets/s"), datagrams,
			func(_ context.Context, m *measurement) error { return m.flood(largeFrame) }},
		{"cps", "TCP connections of one request each, 64 at a time", rate("rate", "connections/s"), anyone,
			func(_ context.Context, m *measurement) error { return m.requests(false) }},
		{"rps", "requests on 64 TCP connections", rate("rate", "requests/s"), anyone,
			func(_ context.Context, m *measurement) error { return m.requests(true) }},
		{"bulk1", "one TCP stream to a server", rate("rate", "bit/s"), anyone,
			func(_ context.Context, m *measurement) error { return m.bulk(1) }},
		{"bulk4", "four TCP streams to the servers", rate("rate", "bit/s"), anyone,
			func(_ context.Context, m *measurement) error { return m.bulk(4) }},
		{"rtt", "round trip of 32 bytes by UDP, one at a time, two thousand a second at most", trips, datagrams,
			func(_ context.Context, m *measurement) error { return m.roundTrip(unix.SOCK_DGRAM) }},
		{"rtt-load", "round trip of 32 bytes by UDP beside a flood of half of what the first system carries", trips,
			datagrams, func(_ context.Context, m *measurement) error { return m.loadedTrip() }},
		{"rtt-tcp", "round trip of 32 bytes on a TCP connection, one at a time", trips, anyone,
			func(_ context.Context, m *measurement) error { return m.roundTrip(unix.SOCK_STREAM) }},
		{"loss", "UDP packets of 60 bytes beyond what can be carried, and 50 TCP connections that are there before",
			[]figure{{"offered", "packets/s", false}, {"delivered", "packets/s", false},
				{"held", "% of the highest rate", false}, {"lost at half", "%", true}, {"survivors", "%", false}},
			datagrams, func(_ context.Context, m *measurement) error { return m.loss() }},
		{"memory", "memory of the process in RAM with a million UDP connections",
			[]figure{{"resident", "bytes", true}, {"connections", "connections", false}},
			func(s *System) bool { return s.Naru }, func(_ context.Context, m *measurement) error { return m.memory() }},
		{idleMetric, "CPU of the process while nothing comes", []figure{{"cpu", "% of a CPU", true}},
			func(s *System) bool { return s.process }, func(_ context.Context, m *measurement) error { return m.idle() }},
	}
}

// startTime is how long traffic may take until some of it arrives, and how much longer than asked for a measurement may
// take until there is something to count: on a busy machine a moment may be nobody's turn.
const startTime = 5 * time.Second

// startStep is how often is looked whether something has arrived.
const startStep = 5 * time.Millisecond

// measure runs the clock: until something arrives and for the warm-up, then between two looks at the count, with the CPU
// use. Between them there is the time asked for, and more if nothing came in it.
func (m *measurement) measure(count func() (uint64, error)) (perSecond float64, err error) {
	from, err := count() // of earlier traffic
	if err == nil {
		_, _, err = beyond(from, startStep, count)
	}
	if err != nil {
		return 0, err
	}
	time.Sleep(m.warm)
	before := takeLoad(m.pids)
	if from, err = count(); err != nil {
		return 0, err
	}
	to, took, err := beyond(from, m.time, count)
	m.cpu = takeLoad(m.pids).since(before)
	return float64(to-from) / took.Seconds(), err
}

// beyond looks at a count in steps of a time until it is more than from, at most startTime longer than one step.
func beyond(from uint64, step time.Duration, count func() (uint64, error)) (to uint64, took time.Duration, err error) {
	start := time.Now()
	for {
		time.Sleep(step)
		to, err = count()
		if took = time.Since(start); err != nil || to > from || took > step+startTime {
			return to, took, err
		}
	}
}

// flood measures packets that arrive while as many are sent as the first CPU can.
func (m *measurement) flood(size int) error {
	f, err := m.newFlood(size, m.flows)
	if err != nil {
		return err
	}
	defer f.close()
	var c crew
	c.run(0, func() { f.send(&c, 0) })
	defer c.end()
	rate, err := m.measure(m.n.arrived)
	if err == nil && rate == 0 {
		err = fmt.Errorf("%d packets were sent and none arrived", f.sent.Load())
	}
	m.values["rate"] = rate
	return err
}

// startServers starts a server in every server node.
func (n *network) startServers() (stop func(), err error) {
	stop = func() {
		for _, s := range n.servers {
			s.close()
		}
	}
	for _, node := range serverNodes {
		if err := n.Do(node, func() error {
			s, err := startServer()
			if err == nil {
				n.servers = append(n.servers, s)
			}
			return err
		}); err != nil {
			stop()
			return nil, err
		}
	}
	return stop, nil
}

// requests measures answered requests, on connections that stay or that are for one request each.
func (m *measurement) requests(keep bool) error {
	h, err := newHTTPClient(m.s.address(), keep)
	if err != nil {
		return err
	}
	var c crew
	c.run(anyCPU, func() { _ = m.n.Do(clientNode, func() error { h.work(&c); return nil }) })
	defer c.end()
	rate, err := m.measure(func() (uint64, error) { return h.answers.Load(), nil })
	switch {
	case err != nil:
	case h.corrupt.Load() > 0:
		err = fmt.Errorf("%d of %d answers were not what was asked for", h.corrupt.Load(), h.answers.Load())
	case rate == 0:
		err = fmt.Errorf("no answer, %d failed connections", h.failures.Load())
	case h.failures.Load()*100 > h.answers.Load():
		err = fmt.Errorf("%d connections failed, %d answers came", h.failures.Load(), h.answers.Load())
	}
	m.values["rate"] = rate
	return err
}

// bulk measures what arrives of streams.
func (m *measurement) bulk(streams int) error {
	var fds []int
	if err := m.n.Do(clientNode, func() (err error) {
		fds, err = bulkStreams(m.s.address(), streams, m.control)
		return err
	}); err != nil {
		return err
	}
	defer closeAll(fds)
	var c crew
	c.run(anyCPU, func() { pump(&c, fds) })
	defer c.end()
	rate, err := m.measure(func() (sum uint64, err error) {
		for _, s := range m.n.servers {
			sum += s.bulk.Load()
			if n := s.corrupt.Load(); n > 0 {
				err = fmt.Errorf("%d reads were not what was sent", n)
			}
		}
		return sum, err
	})
	if err == nil && rate == 0 {
		err = fmt.Errorf("nothing arrived")
	}
	m.values["rate"] = rate * 8
	return err
}

// newFlood prepares a flood through the system.
func (m *measurement) newFlood(size, flows int) (f *flood, err error) {
	err = m.n.Do(clientNode, func() (err error) {
		f, err = newFlood(m.n.layout, m.s.address(), size, flows)
		return err
	})
	return f, err
}

// pinger opens a socket through the system.
func (m *measurement) pinger(typ int, limit time.Duration) (p *pinger, err error) {
	err = m.n.Do(clientNode, func() (err error) {
		p, err = newPinger(typ, m.s.address(), limit)
		return err
	})
	return p, err
}

// roundTrip measures echoes with little else going on.
func (m *measurement) roundTrip(typ int) error {
	p, err := m.pinger(typ, pingLimit)
	if err != nil {
		return err
	}
	defer p.close()
	return m.pings(p)
}

// loadedTrip measures echoes beside a flood.
func (m *measurement) loadedTrip() error {
	if *m.load == 0 {
		if err := m.flood(smallFrame); err != nil {
			return err
		}
		*m.load = m.values["rate"] / 2
	}
	p, err := m.pinger(unix.SOCK_DGRAM, pingLimit)
	if err != nil {
		return err
	}
	defer p.close()
	f, err := m.newFlood(smallFrame, m.flows)
	if err != nil {
		return err
	}
	defer f.close()
	var c crew
	c.run(0, func() { f.send(&c, *m.load) })
	defer c.end()
	return m.pings(p)
}

// pings measures with a pinger for as long as the measurement takes.
func (m *measurement) pings(p *pinger) error {
	for range 100 { // the first find cold caches
		if _, err := p.ping(); err != nil {
			return err
		}
	}
	var c crew
	var took []time.Duration
	before := takeLoad(m.pids)
	c.run(anyCPU, func() { took = p.pings(&c, int(m.time/pingGap)+1) })
	time.Sleep(m.time)
	c.end()
	m.cpu = takeLoad(m.pids).since(before)
	if len(took) == 0 || p.lost*100 > len(took) {
		return fmt.Errorf("%d echoes came, %d were lost", len(took), p.lost)
	}
	m.values["p50"], m.values["p99"], m.values["p99.9"] = quantile(took, 0.5), quantile(took, 0.99), quantile(took, 0.999)
	return nil
}

// fillRate is how many connections a second memory makes: few enough that none is lost on the way.
const fillRate = 80_000

// memory measures what a process holds when every flow of a large flood has been seen once.
func (m *measurement) memory() error {
	f, err := m.newFlood(smallFrame, m.many)
	if err != nil {
		return err
	}
	defer f.close()
	from, err := m.n.arrived()
	if err != nil {
		return err
	}
	before := takeLoad(m.pids)
	var c crew
	c.run(0, func() { f.send(&c, fillRate) })
	for f.sent.Load() < uint64(m.many) {
		time.Sleep(time.Millisecond)
	}
	c.end()
	m.cpu = takeLoad(m.pids).since(before)
	// Those sent a second time before the sender was stopped are few, and so are those that may be missing.
	sent := f.sent.Load()
	to, _, err := beyond(from+sent-sent/50-1, drainTime, m.n.arrived)
	if err != nil {
		return err
	}
	if to-from < sent-sent/50 {
		return fmt.Errorf("of %d first packets %d arrived", sent, to-from)
	}
	m.values["connections"] = float64(min(to-from, uint64(m.many)))
	m.values["resident"], err = residentBytes(m.pids[0])
	return err
}

const idleMetric = "idle"

// restTime is how long a process is given to find out that nothing comes any more.
const restTime = 2 * time.Second

// idle measures what a process uses while nothing comes.
func (m *measurement) idle() error {
	time.Sleep(restTime)
	before := takeLoad(m.pids)
	time.Sleep(m.time)
	m.cpu = takeLoad(m.pids).since(before)
	m.values["cpu"] = m.cpu.Balancer
	return nil
}
