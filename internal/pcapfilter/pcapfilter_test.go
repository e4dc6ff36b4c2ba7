package pcapfilter_test

import (
	"strings"
	"testing"

	"naru/internal/pcapfilter"
)

// TestVerdicts has what tcpdump said of the examples, where there is none to ask.
func TestVerdicts(t *testing.T) {
	list := examples(t)
	for text, want := range map[string]string{
		"arp or ip[6:2] & 0x1fff != 0":    "000000000000110",
		"host 10.20.40.80":                "111111000100110",
		"icmp or icmp6":                   "000001001000000",
		"ip multicast or ether broadcast": "000000000100010",
		"ip":                              "111111000100100",
		"ip6":                             "000000111000001",
		"len > 100":                       "000010000000100",
		"net 2001:db8:20::/48":            "000000111000001",
		"not ip and not ip6":              "000000000011010",
		"port 443 or 53 and udp":          "000010010000000",
		"port 80":                         "110100100000000",
		"portrange 1-60":                  "000010010100000",
		"src net 10.20.0.0/16 and udp":    "000010000100100",
		"tcp port 80":                     "110100100000000",
		"tcp":                             "111100100000001",
		"tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420": "001000000000000",
		"tcp[tcpflags] & tcp-syn != 0":                  "110000000000000",
		"vlan 100":                                      "000000000010000",
		"vlan and tcp":                                  "000000000010000",
		"vlan and vlan and port 53":                     "000000000001000",
	} {
		f, err := pcapfilter.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := ""
		for _, frame := range list {
			got += map[bool]string{true: "1", false: "0"}[f.Match(frame, len(frame), 0)]
		}
		if got != want {
			t.Errorf("%q: %q,", text, got)
		}
		if n := testing.AllocsPerRun(10, func() { f.Match(list[0], len(list[0]), 0) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

func TestATagOutsideTheBytesIsATag(t *testing.T) {
	frame := examples(t)[0]
	for text, want := range map[string]bool{"vlan": true, "vlan 100": true, "vlan 101": false, "vlan and tcp port 80": true,
		"vlan and vlan": false, "tcp port 80": true, "not vlan": false} {
		f, err := pcapfilter.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Match(frame, len(frame), 0x2064); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestMistakesAreTold(t *testing.T) {
	for text, want := range map[string]string{
		"tcp and":                          "something is missing at the end",
		"host":                             "an address is missing at the end",
		"host www.naru.test":               "names are not looked up",
		"tcp host 10.1.2.3":                `tcp has no addresses; write "tcp and host 10.1.2.3"`,
		"ip port 80":                       `ip has no ports; write "ip and port 80"`,
		"port nothing-here":                "is no port",
		"port 70000":                       "is no port",
		"net 10.1.2.3/8":                   "has bits behind its prefix; write 10.0.0.0/8",
		"net 10.0.0.0/40":                  "is no length of a prefix",
		"net 10.0.0.0 mask 3":              "is no mask",
		"ip6 host 10.1.2.3":                "cannot be an address of ip6",
		"(tcp":                             "a ) is missing",
		"tcp)":                             `")" stands where the expression ends`,
		"tcp[1:3] = 0":                     "is no size of bytes",
		"tcp[1 = 0":                        "a ] is missing",
		"ppp[1] = 0":                       `"ppp" has no bytes to ask about`,
		"tcp[1] / 0 = 1":                   "a division by 0",
		"tcp[tcpflag] = 2":                 `"tcpflag" is no number`,
		"gateway 10.1.2.3":                 `"gateway" is not known here`,
		"ip broadcast":                     "ip broadcast is not known here",
		"ether port 80":                    "ether has no ports",
		"ether":                            "ether needs host",
		"ether host 10.1.2.3":              "is no address of Ethernet",
		"ether proto 5":                    "is no EtherType",
		"ip proto 300":                     "is no protocol of IP",
		"vlan 5000":                        "a number from 0 to 4095",
		"less much":                        "takes a number of bytes",
		"tcp port 80 # comment":            `"#" means nothing here`,
		"web":                              "names are not looked up",
		strings.Repeat("! ", 2000) + "tcp": "at most 1000",
	} {
		if _, err := pcapfilter.Compile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
	}
}

// FuzzCompile asks whether any text makes a filter that panics, or that is not compiled again from its own text.
func FuzzCompile(f *testing.F) {
	for _, text := range primitives {
		f.Add(text, []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00\x45\x00"))
	}
	f.Fuzz(func(t *testing.T, text string, frame []byte) {
		c, err := pcapfilter.Compile(text)
		if err != nil {
			return
		}
		got := c.Match(frame, len(frame), 0)
		if n := c.Bytes(); n > 0 && c.Match(frame[:min(n, len(frame))], len(frame), 0) != got {
			t.Errorf("%q by the first %d bytes is not %v", text, n, got)
		}
		if again, err := pcapfilter.Compile(c.String()); err != nil || again.Match(frame, len(frame), 0) != got {
			t.Errorf("%q compiled again: %v", text, err)
		}
	})
}
