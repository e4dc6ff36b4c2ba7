package lab

const natDrawing = `
 client          router           VIP 200.100.50.25   director          switch
+-------------+ +--------------+  www.naru.test      +----------------+  +---+
| 10.20.40.80 |-| 10.20.40.1   |         .           |      naru      |  |   |-- server01 10.10.10.1
+-------------+ | 200.100.50.1 |---------.-----------| 200.100.50.2   |  |   |-- server02 10.10.10.2
                +--------------+  200.100.50.0/24    |   10.10.10.254 |--|   |-- server03 10.10.10.3
                                                     +----------------+  +---+
 servers  have naru as their default route and see the client's own address
 request  client > router > naru > server02   destination becomes 10.10.10.2, the source stays
 reply    server02 > naru > router > client   source becomes the VIP again
 IPv6     client 2001:db8:20::80, VIP 2001:db8:50::25, naru 2001:db8:10::fe, server01 2001:db8:10::1
`

// nat is masquerade NAT: the servers route back through naru. Their route is set up by naru backend setup.
func nat() *Scenario {
	s := classic("nat", "NAT of the destination only: the servers see the client and route back through naru",
		natDrawing, ModeNAT)
	s.Topology = func(o Options) Topology { return twoArms(o, nil) }
	s.Config = func(o Options, socket string) string { return configure(s, nil, o, socket) }
	s.Variants = func() []Variant { return natVariants(s) }
	return s
}
