package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// player plays the clients on one tun device and the backends on another, and IPVS is between them.
type player struct {
	ipvs
	clients, servers tun
	port             uint16 // of the last connection's client
	conns            map[int]*flow
}

// flow is a connection.
type flow struct {
	client, backend   netip.AddrPort
	service           netip.AddrPort
	clientSeq, serSeq uint32
}

func newPlayer() (*player, error) {
	p := &player{port: 1023}
	var err error
	if p.clients, err = newTun("clients", clientSide); err != nil {
		return nil, err
	}
	if p.servers, err = newTun("servers", serverSide); err != nil {
		return nil, err
	}
	if err := configure("lo", netip.PrefixFrom(vip, 32)); err != nil {
		return nil, err
	}
	p.socket, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	return p, err
}

// play plays a case. IPVS adds a server at the head of its list, so the last one is added first; and the scheduler is set
// when all are there, since wrr remembers the level where it was when they came.
func (p *player) play(number int, c *Case) (res Result, err error) {
	p.conns = map[int]*flow{}
	if err := p.order(flush, nil); err != nil {
		return res, err
	}
	port := servicePort(number)
	if err := p.order(addService, serviceOf(port, "rr")); err != nil {
		return res, err
	}
	s := serviceOf(port, c.Scheduler)
	for i := len(c.Weights) - 1; i >= 0; i-- {
		if err := p.order(addServer, serverOf(s, i, c.Weights[i])); err != nil {
			return res, err
		}
	}
	if err := p.order(editService, s); err != nil {
		return res, err
	}
	for i, step := range c.Steps {
		if err := p.step(step, s, netip.AddrPortFrom(vip, port), &res); err != nil {
			return res, fmt.Errorf("step %d, %+v: %w", i, step, err)
		}
	}
	res.Active, res.Idle, err = p.counts()
	return res, err
}

func (p *player) step(s Step, of []byte, to netip.AddrPort, res *Result) error {
	switch s.Op {
	case Open, Half:
		choice, err := p.open(s, to)
		res.Choices = append(res.Choices, choice)
		return err
	case Reset:
		return p.reset(s.Conn)
	case Finish:
		return p.finish(s.Conn)
	case Wait:
		time.Sleep(time.Duration(s.Seconds) * time.Second)
	case Weigh:
		return p.order(editServer, serverOf(of, s.Backend, s.Weight))
	case Add:
		return p.order(addServer, serverOf(of, s.Backend, s.Weight))
	case Remove:
		return p.order(delServer, serverOf(of, s.Backend, 0))
	}
	return nil
}

// open makes a connection, to the end of its handshake or only half of it, and returns who got it.
func (p *player) open(s Step, to netip.AddrPort) (int, error) {
	p.port++
	f := &flow{client: netip.AddrPortFrom(clientAddress(s.Client), p.port), service: to, clientSeq: 1000, serSeq: 5000}
	if err := p.clients.send(segment{f.client, to, syn, f.clientSeq, 0}); err != nil {
		return -1, err
	}
	got, ok := p.servers.receive(f.client)
	if !ok {
		return -1, nil
	}
	f.backend = got.to
	f.clientSeq++
	p.conns[s.Conn] = f
	if s.Op == Open {
		if err := p.fromServer(f, syn|ack); err != nil {
			return -1, err
		}
		f.serSeq++
		if err := p.fromClient(f, ack); err != nil {
			return -1, err
		}
	}
	return backendOf(f.backend.Addr()), nil
}

func (p *player) reset(number int) error {
	if f := p.conns[number]; f != nil {
		return p.fromClient(f, rst)
	}
	return nil
}

func (p *player) finish(number int) error {
	f := p.conns[number]
	if f == nil {
		return nil
	}
	if err := p.fromClient(f, fin|ack); err != nil {
		return err
	}
	f.clientSeq++
	if err := p.fromServer(f, fin|ack); err != nil {
		return err
	}
	f.serSeq++
	return p.fromClient(f, ack)
}

// fromClient sends a segment from the client and waits for it at the backend; fromServer is the other way.
func (p *player) fromClient(f *flow, flags byte) error {
	if err := p.clients.send(segment{f.client, f.service, flags, f.clientSeq, f.serSeq}); err != nil {
		return err
	}
	if got, ok := p.servers.receive(f.client); !ok || got.to != f.backend {
		return fmt.Errorf("a segment (flags %#x) did not come to the backend", flags)
	}
	return nil
}

func (p *player) fromServer(f *flow, flags byte) error {
	if err := p.servers.send(segment{f.backend, f.client, flags, f.serSeq, f.clientSeq}); err != nil {
		return err
	}
	if _, ok := p.clients.receive(f.service); !ok {
		return fmt.Errorf("a segment (flags %#x) did not come to the client", flags)
	}
	return nil
}
