package pcapfilter_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"naru/internal/link/pcapfile"
	"naru/internal/pcapfilter"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// primitives are what random expressions are made of.
var primitives = []string{"tcp", "udp", "icmp", "icmp6", "ip", "ip6", "arp", "sctp", "igmp", "esp", "host 10.20.40.80", "src host 10.20.40.80",
	"dst host 200.100.50.25", "host 2001:db8:20::80", "src or dst 10.20.40.80", "src and dst host 10.20.40.80", "net 10.0.0.0/8",
	"src net 10.20", "dst net 200.100.50.0 mask 255.255.255.0", "ip6 net 2001:db8::/32", "net 2001:db8:20::/47", "port 80",
	"tcp port 80", "udp dst port 53", "tcp src port 80", "portrange 20-100", "dst portrange 40000-50000", "udp port domain",
	"tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-fin) = 0", "tcp[13] = 2", "(tcp[12] >> 4) * 4 > 20",
	"ip[6:2] & 0x1fff != 0", "ip[8] < 64", "icmp[icmptype] = icmp-echo", "icmp6[icmp6type] != icmp6-echo", "udp[4:2] > 100",
	"tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "ether[12:2] = 0x86dd", "ip6[7] = 64", "len > 100", "less 60", "greater 1000",
	"ether broadcast", "multicast", "ip multicast", "ip6 multicast", "ether host 02:00:00:00:00:01", "ether src 02:00:00:00:00:01",
	"ether proto 0x8100", "ip proto 17", "ip6 proto 58", "proto 47", "arp host 10.20.40.80", "ip host 10.20.40.80", "ip[0] & 0xf != 5",
	"ether proto \\arp", "tcp port 80 or 443", "port (53 or 80)", "host 10.20.40.80 and not 200.100.50.25", "ip[2:2] % 7 = 3",
	"ip[4:2] ^ 0xff00 > 0x8000", "ip[2:2] / ip[8] < 16", "-1 < tcp[4:4]", "vlan", "vlan 100", "vlan and tcp", "vlan and vlan and udp"}

// expressions returns primitives and random expressions of them.
func expressions(random *rand.Rand, count int) []string {
	list := append([]string{""}, primitives...)
	var make func(depth int) string
	make = func(depth int) string {
		pick := primitives[random.IntN(len(primitives))]
		switch random.IntN(5) {
		case 0:
			return "not " + pick
		case 1, 2:
			if depth > 0 {
				return make(depth-1) + []string{" and ", " or "}[random.IntN(2)] + make(depth-1)
			}
		case 3:
			if depth > 0 {
				return "not (" + make(depth-1) + ")"
			}
		}
		return pick
	}
	for range count {
		list = append(list, make(3))
	}
	return list
}

// frames are frames of all kinds, also cut and damaged, and those of the captures where there are some.
func frames(t *testing.T, random *rand.Rand) (list []sized) {
	whole := examples(t)
	for _, f := range whole {
		list = append(list, sized{f, len(f)})
		for range 8 {
			n := random.IntN(len(f) + 1)
			list = append(list, sized{f[:n], len(f)}, sized{f[:n], n})
		}
		for range 24 {
			g := bytes.Clone(f)
			for range 1 + random.IntN(3) {
				g[random.IntN(min(len(g), 70))] = byte(random.Uint32())
			}
			list = append(list, sized{g, len(g)})
		}
	}
	if os.Getenv("NARU_PCAPS") == "" && !wiretest.Required("pcaps") {
		return list
	}
	err := filepath.WalkDir(wiretest.Captures(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		list = append(list, captured(path, 400)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// sized is the beginning of a frame that was longer.
type sized struct {
	data   []byte
	length int
}

// captured reads the first Ethernet frames of a capture.
func captured(path string, most int) (list []sized) {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	r, err := pcapfile.NewReader(file)
	for p := (pcapfile.Packet{}); err == nil && len(list) < most; {
		if err = r.Next(&p); err == nil && p.Link == pcapfile.LinkEthernet && p.Length >= len(p.Data) {
			list = append(list, sized{bytes.Clone(p.Data), p.Length})
		}
	}
	return list
}

// TestAFilterJudgesAsTcpdumpDoes asks tcpdump about the same frames.
func TestAFilterJudgesAsTcpdumpDoes(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("no tcpdump to compare with")
	}
	random := rand.New(rand.NewPCG(1, 7))
	list := frames(t, random)
	path := filepath.Join(t.TempDir(), "in.pcapng")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapfile.NewWriter(file)
	w.AddInterface("", "")
	for i, f := range list {
		w.Packet(0, int64(i)*1000, f.data, f.length, "")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	for _, text := range expressions(random, 60) {
		f, err := pcapfilter.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		want := judged(t, tcpdump, path, text)
		for i, x := range list {
			if got := f.Match(x.data, x.length, 0); got != want[i] {
				t.Errorf("%s: %v, tcpdump says %v, of %d bytes %x", text, got, want[i], x.length, x.data[:min(len(x.data), 80)])
				break
			}
			if n := f.Bytes(); n > 0 && n < len(x.data) && f.Match(x.data[:n], x.length, 0) != want[i] {
				t.Errorf("%s: another verdict by the first %d bytes of %x", text, n, x.data)
				break
			}
		}
	}
	t.Logf("%d frames", len(list))
}

// judged returns the frames of a capture that tcpdump takes, by their times.
func judged(t *testing.T, tcpdump, path, text string) map[int]bool {
	// Its optimizer lets it ask frames that are cut in another order.
	cmd := exec.Command(tcpdump, "-O", "-r", path, "-w", "-", "--", text)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if strings.Contains(errs.String(), "expression rejects all packets") {
			return nil
		}
		t.Fatalf("tcpdump %q: %v: %s", text, err, errs.String())
	}
	r, err := pcapfile.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	taken := map[int]bool{}
	for p := (pcapfile.Packet{}); ; {
		if err := r.Next(&p); err == io.EOF {
			return taken
		} else if err != nil {
			t.Fatal(fmt.Errorf("%s: %w", text, err))
		}
		taken[int(p.Time/1000)] = true
	}
}

// examples are whole frames of all kinds.
func examples(t *testing.T) (list [][]byte) {
	const client, client6 = "10.20.40.80", "[2001:db8:20::80]"
	for _, f := range []wiretest.Frame{
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "S", MSS: 1460},
		{Src: "200.100.50.25:80", Dst: client + ":40001", TCP: "SA"},
		{Src: client + ":40001", Dst: "200.100.50.25:443", TCP: "AP", Payload: []byte("GET / HTTP/1.1\r\n\r\n")},
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "FA", TTL: 7, ID: 9},
		{Src: client + ":40001", Dst: "200.100.50.26:53", UDP: true, Payload: make([]byte, 100)},
		{Src: client, Dst: "200.100.50.25", ICMP: []byte{8, 0, 0, 0, 0, 1, 0, 1}},
		{Src: client6 + ":40001", Dst: "[2001:db8:50::25]:80", TCP: "S"},
		{Src: client6 + ":40001", Dst: "[2001:db8:50::25]:53", UDP: true},
		{Src: "2001:db8:20::80", Dst: "2001:db8:50::25", ICMP: []byte{128, 0, 0, 0, 0, 1, 0, 1}},
		{Src: client + ":40001", Dst: "224.0.0.5:20", UDP: true},
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "S", VLANs: []uint16{100}},
		{Src: client + ":40001", Dst: "200.100.50.25:53", UDP: true, VLANs: []uint16{200, 100}},
	} {
		f.SrcMAC, f.DstMAC = wire.MAC{2, 0, 0, 0, 0, 1}, wire.MAC{2, 0, 0, 0, 0, 2}
		list = append(list, f.Bytes(t))
	}
	later := bytes.Clone(list[4])
	later[20], later[21] = 0, 185 // a later fragment
	arp := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 20, 40, 80},
		0, 0, 0, 0, 0, 0, 200, 100, 50, 25)
	pieces := bytes.Clone(list[6])
	pieces[20] = 44 // a fragment header, of TCP
	pieces = append(append(pieces[:54:54], 6, 0, 0, 1, 0, 0, 0, 7), pieces[54:]...)
	return append(list, later, arp, pieces)
}
