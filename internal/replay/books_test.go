package replay_test

import (
	"fmt"

	"naru/forwarder"
	"naru/internal/wire"
)

// books are the living connections. Each has two names, the client's flow and, where replies pass, that of the replies:
// naru's translation is a bijection as long as none is anybody else's.
type books struct {
	requests map[wire.Flow]*forwarder.Connection
	replies  map[wire.Flow]*forwarder.Connection
	byID     map[wire.FlowID]*forwarder.Connection
	living   int // of the engine, at the end
}

func newBooks() books {
	return books{requests: map[wire.Flow]*forwarder.Connection{}, replies: map[wire.Flow]*forwarder.Connection{},
		byID: map[wire.FlowID]*forwarder.Connection{}}
}

// request is the flow of what the client sends.
func request(c *forwarder.Connection) wire.Flow {
	return wire.Flow{Src: c.Client, Dst: c.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: c.Proto}
}

// translated reports whether replies pass naru.
func translated(c *forwarder.Connection) bool {
	return c.Mode == forwarder.FullNAT || c.Mode == forwarder.NAT
}

// answer is the flow of what the backend sends.
func answer(c *forwarder.Connection) wire.Flow {
	f := wire.Flow{Src: c.Address, Dst: c.Client, SrcPort: c.BackendPort, DstPort: c.ClientPort, Proto: c.Proto}
	if c.Mode == forwarder.FullNAT {
		f.Dst, f.DstPort = c.Local, c.LocalPort
	}
	return f
}

func (s *subject) started(c *forwarder.Connection) {
	live := *c
	if other := s.requests[request(c)]; other != nil {
		s.wrong("connection %v begins and has begun already", c.Flow)
	}
	if other := s.replies[answer(c)]; translated(c) && other != nil {
		s.wrong("the replies of connections %v and %v look alike: %v", c.Flow, other.Flow, answer(c))
	}
	if why := s.misled(c); why != "" {
		s.wrong("connection %v: %s", c.Flow, why)
	}
	s.requests[request(c)], s.byID[c.Flow] = &live, &live
	if translated(c) {
		s.replies[answer(c)] = &live
	}
}

// misled returns what is wrong about where a connection leads, by the configuration.
func (s *subject) misled(c *forwarder.Connection) string {
	svc := &s.cfg.Services[0]
	if c.VIP != wire.AddrFrom(svc.VIP) || c.Service != svc.Name {
		return fmt.Sprintf("it is to %v, service %s", c.VIP, c.Service)
	}
	for i := range svc.Backends {
		b := &svc.Backends[i]
		if b.Name == c.Backend && wire.AddrFrom(b.Address) == c.Address && (b.Port == 0 || b.Port == c.BackendPort) {
			return ""
		}
	}
	return fmt.Sprintf("no backend %s is at %v port %d", c.Backend, c.Address, c.BackendPort)
}

func (s *subject) ended(c *forwarder.Connection) {
	if s.requests[request(c)] == nil {
		s.wrong("connection %v ends and has not begun", c.Flow)
	}
	delete(s.requests, request(c))
	delete(s.byID, c.Flow)
	if translated(c) {
		delete(s.replies, answer(c))
	}
}

// lives is told of each connection that lives at the end.
func (s *subject) lives(c *forwarder.Connection) {
	s.living++
	if s.requests[request(c)] == nil {
		s.wrong("connection %v lives and is not in the books", c.Flow)
	}
}

func (s *subject) closed() {
	if s.living != len(s.requests) {
		s.wrong("%d connections live, the books have %d", s.living, len(s.requests))
	}
}
