package bench

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	survivors = 50                      // connections that are there before the flood
	stepTime  = 4                       // a step of the load is the metric's time divided by this
	leastStep = 100 * time.Millisecond  // however short the metric's time is
	drainTime = 100 * time.Millisecond  // what is on its way at the end of a step arrives
	pingWait  = 1500 * time.Millisecond // one retransmission of TCP's
)

// loadSteps are the loads that loss tries below and around what arrives at the greatest one, as parts of it.
var loadSteps = []float64{0.5, 0.8, 0.9, 1, 1.1, 1.3}

// loss measures what arrives of more than can be carried, and of less, and what becomes of connections meanwhile.
func (m *measurement) loss() error {
	var conns []*pinger
	defer func() {
		for _, p := range conns {
			p.close()
		}
	}()
	for range survivors {
		p, err := m.pinger(unix.SOCK_STREAM, pingWait)
		if err != nil {
			return err
		}
		conns = append(conns, p)
		if _, err := p.ping(); err != nil {
			return err
		}
	}
	w := newWitnesses()
	var look crew
	defer look.end()
	for i, node := range serverNodes {
		if err := m.n.Do(node, func() error { return w.open(i, &look) }); err != nil {
			return err
		}
	}
	f, err := m.newFlood(smallFrame, m.flows)
	if err != nil {
		return err
	}
	defer f.close()
	f.watch = true
	before := takeLoad(m.pids)
	offered, most, err := m.step(f, 0)
	m.cpu = takeLoad(m.pids).since(before)
	if err != nil {
		return err
	}
	peak := most
	for _, part := range loadSteps {
		sent, came, err := m.step(f, most*part)
		if err != nil {
			return err
		}
		if peak = max(peak, came); part == loadSteps[0] {
			m.values["lost at half"] = max(0, 1-came/sent) * 100
		}
	}
	m.values["offered"], m.values["delivered"], m.values["held"] = offered, most, most/peak*100
	alive := 0
	for _, p := range conns {
		if p.again() {
			alive++
		}
	}
	m.values["survivors"] = float64(alive) / survivors * 100
	return w.verdict()
}

// step sends at a rate, 0: as fast as it goes, and returns how many packets a second were sent and arrived.
func (m *measurement) step(f *flood, rate float64) (sent, came float64, err error) {
	from, err := m.n.arrived()
	if err != nil {
		return 0, 0, err
	}
	before, start := f.sent.Load(), time.Now()
	var c crew
	c.run(0, func() { f.send(&c, rate) })
	time.Sleep(max(m.time/stepTime, leastStep))
	c.end()
	took := time.Since(start).Seconds()
	to, _, err := beyond(from, drainTime, m.n.arrived)
	if err == nil && to == from {
		err = fmt.Errorf("%d packets were sent and none arrived", f.sent.Load()-before)
	}
	return float64(f.sent.Load()-before) / took, float64(to-from) / took, err
}

// again reports whether a connection still answers, with the retransmissions that this may take.
func (p *pinger) again() bool {
	for range 3 {
		if _, err := p.ping(); err == nil {
			return true
		}
	}
	return false
}
