package dsr_test

import (
	"net/netip"
	"strings"
	"testing"

	"naru/dsr"
)

// tunnel makes a tunnel to a backend, of the family of its source.
func tunnel(t testing.TB, kind dsr.Kind, source string, variant uint8) dsr.Tunnel {
	t.Helper()
	c := dsr.TunnelConfig{Kind: kind, Source: netip.MustParsePrefix(source), Dst: backend(4).Netip(), Port: 6080,
		Variant: variant}
	if c.Source.Addr().Is6() {
		c.Dst = backend(6).Netip()
	}
	tun, err := dsr.NewTunnel(c)
	if err != nil {
		t.Fatal(err)
	}
	return tun
}

func TestOverhead(t *testing.T) {
	for _, tc := range []struct {
		kind    dsr.Kind
		source  string
		variant uint8
		want    int
	}{
		{dsr.IPIP, "10.0.0.1/32", 0, 20},
		{dsr.IPIP, "2001:db8::1/128", 0, 40},
		{dsr.GUE, "10.0.0.1/32", 0, 32},
		{dsr.GUE, "10.0.0.1/32", 1, 28},
		{dsr.GUE, "2001:db8::1/128", 0, 52},
		{dsr.GUE, "2001:db8::1/128", 1, 48},
	} {
		tun := tunnel(t, tc.kind, tc.source, tc.variant)
		if got := tun.Overhead(); got != tc.want {
			t.Errorf("kind %d from %s, variant %d: %d bytes, want %d", tc.kind, tc.source, tc.variant, got, tc.want)
		}
	}
}

func TestTunnelsThatCannotBe(t *testing.T) {
	right := dsr.TunnelConfig{Kind: dsr.GUE, Source: netip.MustParsePrefix("10.0.0.0/24"),
		Dst: netip.MustParseAddr("10.10.10.2"), Port: 6080, Variant: 1}
	if _, err := dsr.NewTunnel(right); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		want   string
		change func(*dsr.TunnelConfig)
	}{
		{"destination invalid IP", func(c *dsr.TunnelConfig) { c.Dst = netip.Addr{} }},
		{"destination 0.0.0.0", func(c *dsr.TunnelConfig) { c.Dst = netip.IPv4Unspecified() }},
		{"destination ff02::1", func(c *dsr.TunnelConfig) { c.Dst = netip.IPv6LinkLocalAllNodes() }},
		{"source invalid Prefix", func(c *dsr.TunnelConfig) { c.Source = netip.Prefix{} }},
		{"source 2001:db8::/64 is not of the same family", func(c *dsr.TunnelConfig) {
			c.Source = netip.MustParsePrefix("2001:db8::/64")
		}},
		{"nothing comes from source 224.0.0.0/4", func(c *dsr.TunnelConfig) {
			c.Source = netip.MustParsePrefix("224.0.0.0/4")
		}},
		{"nothing comes from source 0.0.0.0/0", func(c *dsr.TunnelConfig) { c.Source = netip.MustParsePrefix("0.0.0.0/0") }},
		{"kind 2 is unknown", func(c *dsr.TunnelConfig) { c.Kind = 2 }},
		{"GUE has no port 0", func(c *dsr.TunnelConfig) { c.Port = 0 }},
		{"no variant 2", func(c *dsr.TunnelConfig) { c.Variant = 2 }},
	} {
		c := right
		tc.change(&c)
		tun, err := dsr.NewTunnel(c)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
		if tun.Overhead() != 0 {
			t.Errorf("%v comes with a tunnel", err)
		}
	}
}

func TestADestinationInMappedFormIsAnIPv4Address(t *testing.T) {
	_, err := dsr.NewTunnel(dsr.TunnelConfig{Source: netip.MustParsePrefix("10.0.0.1/32"),
		Dst: netip.MustParseAddr("::ffff:10.10.10.2")})
	if err != nil {
		t.Error(err)
	}
}
