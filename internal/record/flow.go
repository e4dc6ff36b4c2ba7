package record

import (
	"net/netip"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// Flow is what a flow log says of a connection: who talks to whom, and by way of what. Ends are ADDRESS:PORT.
type Flow struct {
	Flow     string `json:"flow"`
	Service  string `json:"service"`
	Backend  string `json:"backend"`
	Mode     string `json:"mode"`
	Protocol string `json:"protocol"`
	Client   string `json:"client"`
	VIP      string `json:"vip"`
	Local    string `json:"local,omitempty"` // of full NAT: whose port maps back to the client
	Server   string `json:"server"`
}

// NewFlow returns what is said of a connection.
func NewFlow(c *forwarder.Connection) Flow {
	named := forwarder.Record{Mode: c.Mode, Encap: c.Encap, Service: c.Service}
	f := Flow{Flow: c.Flow.String(), Service: c.Service, Backend: c.Backend, Mode: named.ModeName(), Protocol: "tcp",
		Client: end(c.Client, c.ClientPort), VIP: end(c.VIP, c.VIPPort), Server: end(c.Address, c.BackendPort)}
	if c.Proto == wire.ProtoUDP {
		f.Protocol = "udp"
	}
	if c.Mode == forwarder.FullNAT {
		f.Local = end(c.Local, c.LocalPort)
	}
	return f
}

func end(a wire.Addr, port uint16) string { return netip.AddrPortFrom(a.Netip(), port).String() }

// Traffic is what a connection has carried, in packets and bytes of IP packets. Replies are those that pass naru.
type Traffic struct {
	RequestPackets uint64 `json:"request_packets"`
	RequestBytes   uint64 `json:"request_bytes"`
	ReplyPackets   uint64 `json:"reply_packets"`
	ReplyBytes     uint64 `json:"reply_bytes"`
}

// NewTraffic returns what a connection has carried.
func NewTraffic(c *forwarder.Connection) Traffic {
	return Traffic{c.Packets[conntrack.Original], c.Bytes[conntrack.Original],
		c.Packets[conntrack.Reply], c.Bytes[conntrack.Reply]}
}
