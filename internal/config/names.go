package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// Limits of Linux: IFNAMSIZ (16) and sun_path (108) with their final zero byte.
const (
	maxInterfaceName = 15
	maxSocketPath    = 107
)

// maxName is the longest name of ours: one label of a domain name (RFC 1035 2.3.4).
const maxName = 63

const lowerAlnum = "abcdefghijklmnopqrstuvwxyz0123456789"

// name reads the name of a service or a backend. Names are lower case, so that two never differ by case alone.
func (d *decoder) name(v value) string {
	s, ok := d.word(v, "web")
	if !ok {
		return ""
	}
	if len(s) > maxName || strings.Trim(s, lowerAlnum+"-") != "" || s[0] == '-' {
		d.fail(v.path, "use a-z, 0-9 and -, not - first, at most 63 characters", "%s is not a name", quoted(s))
		return ""
	}
	return s
}

// nodeName reads the name of this machine: any host name will do.
func (d *decoder) nodeName(v value) string {
	s, ok := d.word(v, "lb1")
	if !ok {
		return ""
	}
	if len(s) > maxName || strings.Trim(strings.ToLower(s), lowerAlnum+"-._") != "" {
		d.fail(v.path, "use letters, digits, - . and _, at most 63 characters", "%s is not a name", quoted(s))
		return ""
	}
	return s
}

// interfaceName reads what the kernel takes for the name of an interface.
func (d *decoder) interfaceName(v value) string {
	s, ok := d.word(v, "eth0")
	if !ok {
		return ""
	}
	switch {
	case len(s) > maxInterfaceName:
		d.fail(v.path, "Linux allows at most 15 characters", "%s is too long for an interface", quoted(s))
	case s == "." || s == ".." || strings.ContainsAny(s, "/:") || strings.ContainsFunc(s, unicode.IsSpace):
		d.fail(v.path, `an interface name has no "/", ":" or space`, "%s is not the name of an interface", quoted(s))
	case s == "lo":
		d.fail(v.path, "name the interface that the packets come in by", "naru cannot work on the loopback interface")
	default:
		return s
	}
	return ""
}

// socketPath reads the path of a unix socket.
func (d *decoder) socketPath(v value) string {
	s, ok := d.word(v, DefaultSocket)
	if !ok {
		return ""
	}
	switch {
	case s[0] != '/' || strings.HasSuffix(s, "/"):
		d.fail(v.path, "write it as "+DefaultSocket, "%s is not the absolute path of a file", quoted(s))
	case len(s) > maxSocketPath:
		d.fail(v.path, "Linux allows at most 107 bytes", "the path of the socket is too long")
	default:
		return s
	}
	return ""
}

// addressRule is what a kind of address must be besides unicast.
type addressRule struct {
	linkLocal bool // fe80::/10 has a meaning here
}

// address reads the address of one host. Which addresses cannot be one: RFC 6890, RFC 4291.
func (d *decoder) address(v value, rule addressRule) netip.Addr {
	s, ok := d.word(v, `192.0.2.1 or "2001:db8::1"`)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		d.notAddress(v.path, s)
		return netip.Addr{}
	}
	what, fix := unusable(a, rule)
	if what != "" {
		d.fail(v.path, fix, "%s", what)
		return netip.Addr{}
	}
	return a
}

// notAddress reports text that is no address and says what it may have been meant to be.
func (d *decoder) notAddress(path, s string) {
	host, rest, _ := strings.Cut(s, "/")
	port, err := netip.ParseAddrPort(s)
	_, notHost := netip.ParseAddr(host)
	switch {
	case rest != "" && notHost == nil:
		d.fail(path, "write "+host, "%s has a prefix length; one address is meant", quoted(s))
	case err == nil:
		d.fail(path, fmt.Sprintf("write %s here and the port in its own key", port.Addr()), "%s has a port", quoted(s))
	case strings.Trim(s, "0123456789.") == "" || strings.Contains(s, ":"):
		d.fail(path, `write it as 192.0.2.1 or "2001:db8::1"`, "%s is not an address", quoted(s))
	default:
		d.fail(path, "write its address; naru asks no name server", "%s is a name, not an address", quoted(s))
	}
}

// unusable says why an address cannot be the address of a host here, and what to do; or "".
func unusable(a netip.Addr, rule addressRule) (what, fix string) {
	const another = "use the address of one host"
	switch {
	case a.Is4In6():
		return fmt.Sprintf("%s is IPv4 mapped into IPv6", a), "write " + a.Unmap().String()
	case a.Zone() != "":
		return fmt.Sprintf("%q has a zone", a), "write " + a.WithZone("").String()
	case a.IsUnspecified():
		return fmt.Sprintf("%s is the unspecified address", a), another
	case a.IsLoopback():
		return fmt.Sprintf("%s is a loopback address; its packets never leave the host", a), another
	case a.IsMulticast():
		return fmt.Sprintf("%s is a multicast address", a), another
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Sprintf("%s is the broadcast address", a), another
	case a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240):
		return fmt.Sprintf("%s is in a reserved range", a), another
	case a.Is6() && a.IsLinkLocalUnicast() && !rule.linkLocal:
		return fmt.Sprintf("%s is link-local and means something else on every interface", a), "use a global address"
	}
	return "", ""
}

// mac reads the Ethernet address of one host.
func (d *decoder) mac(v value) [6]byte {
	s, ok := d.word(v, `"02:00:00:00:00:01"`)
	if !ok {
		return [6]byte{}
	}
	m, ok := parseMAC(s)
	switch {
	case !ok:
		d.fail(v.path, `write it as "02:00:00:00:00:01"`, "%s is not a MAC address", quoted(s))
	case m == [6]byte{}:
		d.fail(v.path, "write the neighbour's own MAC address", "the MAC address is zero")
	case m[0]&1 != 0:
		d.fail(v.path, "write the neighbour's own MAC address", "%s is a multicast or broadcast MAC address", s)
	default:
		return m
	}
	return [6]byte{}
}

// parseMAC reads six bytes in hexadecimal, two digits each, with ":" or "-" between them.
func parseMAC(s string) (m [6]byte, ok bool) {
	parts := strings.Split(strings.ReplaceAll(s, "-", ":"), ":")
	if len(parts) != len(m) {
		return m, false
	}
	for i, p := range parts {
		b, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(p) != 2 {
			return m, false
		}
		m[i] = byte(b)
	}
	return m, true
}

// parseRange reads "8000-8099".
func parseRange(s string) (Ports, bool) {
	a, b, ok := strings.Cut(s, "-")
	a, b = strings.TrimSpace(a), strings.TrimSpace(b)
	if !ok || !isDecimal(a) || !isDecimal(b) {
		return Ports{}, false
	}
	lo, err1 := strconv.ParseUint(a, 10, 16)
	hi, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || lo == 0 || lo > hi {
		return Ports{}, false
	}
	return Ports{uint16(lo), uint16(hi)}, true
}

// sourcePorts reads the range of local ports.
func (d *decoder) sourcePorts(v value) Ports {
	s, ok := d.word(v, "1024-32767")
	if !ok {
		return Ports{}
	}
	r, ok := parseRange(s)
	switch {
	case !ok:
		d.fail(v.path, "write it as 1024-32767, from 1 to 65535, the lower port first",
			"%s is not a range of ports", quoted(s))
	case int(r.Hi)-int(r.Lo)+1 < minSourcePorts:
		d.fail(v.path, fmt.Sprintf("give at least %d ports; each worker gets its own part", minSourcePorts),
			"%s has only %d ports", r, int(r.Hi)-int(r.Lo)+1)
	default:
		return r
	}
	return Ports{}
}

// servicePorts reads one item of "ports".
func (d *decoder) servicePorts(v value) Ports {
	if s, ok := d.scalarText(v); ok {
		if s == "any" {
			return Ports{1, 65535}
		}
		if r, ok := parseRange(s); ok {
			return r
		}
		if n, err := strconv.ParseUint(s, 10, 16); err == nil && n > 0 && isDecimal(s) {
			return Ports{uint16(n), uint16(n)}
		}
	}
	d.fail(v.path, `write a port from 1 to 65535, a range as "8000-8099", or any`, "%s", notA(v.node, "a port"))
	return Ports{}
}
