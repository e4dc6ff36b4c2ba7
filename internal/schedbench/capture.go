package schedbench

import (
	"errors"
	"fmt"
	"io"
	"time"

	"naru/internal/link/pcapfile"
	"naru/internal/wire"
)

// flowGap is the silence after which packets with the same addresses and ports are another connection.
const flowGap = 5 * time.Minute

// seen is a connection of a capture.
type seen struct {
	number      int // of the arrival
	first, last int64
}

// capture turns packets into connections.
type capture struct {
	arrivals []Arrival
	flows    map[wire.Flow]*seen // by the flow of its first packet
	clients  map[wire.Addr]uint32
	start    int64
	buf      [wire.Headroom + wire.MaxFrame + pcapfile.MaxPacket]byte
}

// Capture reads the connections of a capture, pcap or pcapng: TCP from its SYN on, or from where it was picked up, and UDP.
// The one who sends first is the client. A connection lasts from its first packet to its last. It returns how many clients
// there are. A capture that was cut off at the end is taken as far as it goes.
func Capture(r io.Reader) (arrivals []Arrival, clients int, err error) {
	in, err := pcapfile.NewReader(r)
	if err != nil {
		return nil, 0, err
	}
	c := &capture{flows: map[wire.Flow]*seen{}, clients: map[wire.Addr]uint32{}}
	for {
		var p pcapfile.Packet
		switch err := in.Next(&p); {
		case err == io.EOF || errors.Is(err, pcapfile.ErrTruncated):
			if len(c.arrivals) == 0 {
				return nil, 0, fmt.Errorf("schedbench: the capture has no TCP and no UDP")
			}
			c.close()
			return c.arrivals, len(c.clients), nil
		case err != nil:
			return nil, 0, err
		}
		c.packet(&p)
	}
}

func (c *capture) packet(p *pcapfile.Packet) {
	frame, _, part := pcapfile.AppendWhole(c.buf[:wire.Headroom], p)
	if part != pcapfile.Whole {
		return
	}
	pkt := wire.Packet{Frame: wire.Frame{Buf: c.buf[:], Off: wire.Headroom, Len: len(frame) - wire.Headroom}}
	if pkt.ParseLink() != wire.ReasonNone || pkt.ParseNetwork() != wire.ReasonNone || pkt.Frag == wire.LaterFragment ||
		pkt.Proto != wire.ProtoTCP && pkt.Proto != wire.ProtoUDP {
		return
	}
	f := pkt.Flow
	back := wire.Flow{Src: f.Dst, Dst: f.Src, SrcPort: f.DstPort, DstPort: f.SrcPort, Proto: f.Proto}
	if s := c.flows[back]; s != nil && p.Time-s.last < int64(flowGap) {
		s.last = max(s.last, p.Time)
		return
	}
	s := c.flows[f]
	begins := pkt.Proto == wire.ProtoTCP && pkt.TCPFlags&(wire.SYN|wire.ACK) == wire.SYN
	if s != nil && p.Time-s.last < int64(flowGap) && !(begins && p.Time-s.first > int64(time.Minute)) {
		s.last = max(s.last, p.Time)
		return
	}
	if s != nil {
		c.ended(s)
	}
	c.begins(f, p.Time)
}

// begins notes a new connection.
func (c *capture) begins(f wire.Flow, at int64) {
	if len(c.arrivals) == 0 {
		c.start = at
	}
	client, known := c.clients[f.Src]
	if !known {
		client = uint32(len(c.clients))
		c.clients[f.Src] = client
	}
	c.flows[f] = &seen{number: len(c.arrivals), first: at, last: at}
	c.arrivals = append(c.arrivals, Arrival{At: max(0, time.Duration(at-c.start)), Client: client})
}

func (c *capture) ended(s *seen) { c.arrivals[s.number].Lasts = time.Duration(s.last - s.first) }

func (c *capture) close() {
	for _, s := range c.flows { // no order shows
		c.ended(s)
	}
	SortArrivals(c.arrivals)
}

// CaptureInput makes the input of a capture for so many backends of weight 1.
func CaptureInput(r io.Reader, backends []Backend) (*Input, error) {
	as, clients, err := Capture(r)
	if err != nil {
		return nil, err
	}
	end := time.Duration(0)
	for _, a := range as {
		end = max(end, a.At+a.Lasts)
	}
	end += time.Millisecond
	return &Input{Backends: backends, Arrivals: as, Clients: clients, Bucket: max(1, end/buckets), End: end}, nil
}
