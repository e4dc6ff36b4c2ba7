// Package lab builds small networks out of network namespaces, runs naru in them, and tests and shows what it does.
//
// Contract: a lab is data (Topology) that Up builds: a named network namespace a node, veth cables with their default
// offloads, addresses, routes, sysctls, built-in servers and naru itself. Everything that a lab is made of has its
// name, naru-LAB-NODE, and is written down in /run/naru-lab/LAB/state.json before it is made, so that Down and Clean
// remove it also after a kill -9 of anything. Only processes that a lab started are ever signalled: they are known by
// pid and start time. Backends are set up by naru's own command, run in their nodes. Test drives real traffic through naru
// and compares what comes out, and what captures of every cable show, with what must; Demo and Explain show one request,
// packet by packet; Graph draws a network.
//
// The package does not run other programs to configure anything (no ip, nft, ethtool): it speaks netlink and ioctl.
// It changes nothing outside its namespaces but files under /run/naru-lab, /run/netns and /etc/netns. It needs root.
// A namespace is entered only by a locked operating system thread, which is thrown away if it cannot be brought back.
//
// Files in /etc/netns/NAMESPACE are bind-mounted over those of /etc for programs that run in a node, the convention of
// ip-netns(8). Addresses are those of examples and documentation (RFC 1918, RFC 3849) but for 200.100.50.0/24, which
// never leaves the lab.
package lab
