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
	n      *network
	s      *System
	time   time.Duration // how long is measured
	warm   time.Duration // how long the traffic runs before
	flows  int
	round  int
	pids   []int
	values map[string]float64 // by the figure's name
	cpu    CPU
}

// floodFlows is how many connections a flood is of, unless the caller says another number.
const floodFlows = 1024

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
		{"rtt-tcp", "round trip of 32 bytes on a TCP connection, one at a time", trips, anyone,
			func(_ context.Context, m *measurement) error { return m.roundTrip(unix.SOCK_STREAM) }},
	}
}

// measure runs the clock: warm-up, then f between the two ends of the time, with the CPU use.
func (m *measurement) measure(count func() (uint64, error)) (perSecond float64, err error) {
	time.Sleep(m.warm)
	before := takeLoad(m.pids)
	from, err := count()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	time.Sleep(m.time)
	to, err := count()
	took := time.Since(start).Seconds()
	m.cpu = takeLoad(m.pids).since(before)
	return float64(to-from) / took, err
}

// flood measures packets that arrive while as many are sent as the first CPU can.
func (m *measurement) flood(size int) error {
	var f *flood
	err := m.n.Do(clientNode, func() (err error) {
		f, err = newFlood(m.n.layout, m.s.address(), size, m.flows)
		return err
	})
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
		fds, err = bulkStreams(m.s.address(), streams)
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

// roundTrip measures echoes with little else going on.
func (m *measurement) roundTrip(typ int) error {
	var p *pinger
	if err := m.n.Do(clientNode, func() (err error) {
		p, err = newPinger(typ, m.s.address(), pingLimit)
		return err
	}); err != nil {
		return err
	}
	defer p.close()
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
