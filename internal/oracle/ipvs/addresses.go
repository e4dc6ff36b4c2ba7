package main

import "net/netip"

// The VIP, and the networks of the two tun devices.
var (
	vip        = netip.AddrFrom4([4]byte{10, 0, 0, 100})
	clientSide = netip.MustParsePrefix("10.1.255.254/16")
	serverSide = netip.MustParsePrefix("10.2.255.254/16")
)

// firstBackend is the last byte of the address of backend 0.
const firstBackend = 10

// address is a backend's.
func address(backend int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 2, 0, byte(firstBackend + backend)})
}

// backendOf is the inverse of address.
func backendOf(a netip.Addr) int { return int(a.As4()[3]) - firstBackend }

// clientAddress is a client's: not one after the other, which some hashes like too well.
func clientAddress(client int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(client * 37 % 251), byte(1 + client%250)})
}

// backendPort is every backend's.
const backendPort = 80

// servicePort is that of a case by its number: each is a service of its own.
func servicePort(number int) uint16 { return uint16(1000 + number) }
