package forwarder_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/wiretest"
)

// Why naru and the kernel differ. Each is a choice that both can defend, or what the engine refuses by name.
const (
	whyFIN     = "a connection picked up at its FIN: the kernel wants an ACK alone, naru lets the backend end it"
	whySYNSent = "a segment before the SYN-ACK: invalid to the kernel; naru lets the backend judge it"
	whyReset   = "an RST with the wrong acknowledgement number ends the kernel's entry, but not naru's (RFC 5961)"
	whyPort    = "a client port that is taken: each chooses a free one, the kernel one below 1024 for one"
	whyAtomic  = "an atomic fragment: the kernel takes the fragment header out, naru leaves it (RFC 6946)"
	whyEOL     = "the kernel clears what follows the end of the IP options; naru leaves it"
)

// captureDifferences are the packets of captures that may differ, by number.
var captureDifferences = map[string]map[string][]int{
	"tcp4/pp-http-packets2.pcap":       {whyFIN: {39, 40, 44, 45}},
	"tcpodd/zk-handshake-reorder.pcap": {whySYNSent: {3, 4, 10, 11, 12, 13, 14}},
	"tcpodd/zk-rst-inject-rae.pcap":    {whyReset: {3}},
	"icmp/td-dhcp-rfc4388.pcap":        {whyPort: {11, 14, 23, 25}},
	"frag/zk-ipv6-http-atomic-frag.pcap": {whySYNSent: {5, 8, 9, 10, 11},
		whyAtomic: {13, 15, 16, 20, 21}},
	"malformed/sv-tcp-session-decode-malformed-ipv4.pcap": {whyEOL: {8}},
}

// outcomeFields are the fields in which packets differ; without an entry the engine sends a packet and the kernel none, or
// an untranslated one.
var outcomeFields = map[string][]string{
	whyPort:   {"udp source port", "udp checksum"},
	whyAtomic: {"ip payload length", "ip next header", "ip extension headers"},
	whyEOL:    {"ip checksum", "ip options"},
}

// captureEqual are captures of which so many packets at least must come out equal.
var captureEqual = map[string]int{"tcp4/zk-methods.pcap": 655, "icmp/zk-smtp.pcap": 122}

// captureRefused are the fragmented datagrams that naru refuses by name.
var captureRefused = map[string]int{
	"frag/sv-frag-eth-vlan-ip-tcp-syn.pcap": 1, // fragments of 8 bytes: the TCP header is not in the first (RFC 1858)
}

// captureLeftOut are captures that say nothing here.
var captureLeftOut = []string{
	"flows/sn-sanitized4k_truncated128.pcap", // every packet is cut
}

// TestCapturesAsTheKernelTranslatesThem puts captures of other people through the kernel's NAT and the engine.
func TestCapturesAsTheKernelTranslatesThem(t *testing.T) {
	wiretest.Root(t)
	dir := wiretest.Captures(t)
	for _, folder := range []string{"tcp4", "tcp6", "dns", "icmp", "flows", "tcpodd", "frag", "malformed"} {
		for _, file := range wiretest.CaptureFiles(t, dir, folder) {
			if slices.Contains(captureLeftOut, file) {
				continue
			}
			for name, mode := range natModes {
				t.Run(name+" "+strings.ReplaceAll(file, "/", " "), func(t *testing.T) { oracleCapture(t, mode, dir, file) })
			}
		}
	}
}

func oracleCapture(t *testing.T, mode forwarder.Mode, dir, file string) {
	packets, err := wiretest.ReadCapture(filepath.Join(dir, file))
	if err != nil {
		t.Log(err)
	}
	adapt, may := wiretest.AdaptCapture, maps.Clone(captureDifferences[file])
	if mode == forwarder.NAT {
		adapt = wiretest.AdaptCaptureDNAT
		delete(may, whyPort) // every client keeps its own
	}
	services, steps := adapt(packets)
	t.Logf("%d packets; %d services with %d packets", len(packets), len(services), len(steps))
	if len(steps) == 0 {
		return
	}
	r := newOracleRun(t, mode, [2]int{9000, 9000}, services)
	r.explain = func(o *outcome) string { return explainCapture(o, may) }
	for why, numbers := range may {
		if outcomeFields[why] == nil {
			r.silent = append(r.silent, numbers...)
		}
	}
	for _, s := range steps {
		r.step(s.Number, s.Side, s.Frame)
	}
	same, more := r.joinParts()
	r.report()
	t.Logf("%d datagrams of fragments are the same", same)
	if want := captureRefused[file]; more != want {
		t.Errorf("naru refuses %d fragmented datagrams that the kernel forwards, want %d", more, want)
	}
	if want := captureEqual[file]; r.fates[equal] < want {
		t.Errorf("%d packets are equal, want %d", r.fates[equal], want)
	}
	for why, numbers := range may { // what does not differ any more must leave the list
		if r.explained[why] != len(numbers) {
			t.Errorf("%d packets differ, %d are listed: %s", r.explained[why], len(numbers), why)
		}
	}
}

// explainCapture returns why a packet of a capture may differ.
func explainCapture(o *outcome, may map[string][]int) string {
	for why, numbers := range may {
		if slices.Contains(numbers, o.number) && o.differsAs(why) {
			return why
		}
	}
	return ""
}

// differsAs reports whether a packet differs in the way that its explanation says.
func (o *outcome) differsAs(why string) bool {
	want := outcomeFields[why]
	if want == nil {
		return len(o.naru) == 1 && (len(o.kernel) == 0 || o.side == wiretest.BackendSide && o.untranslated())
	}
	return slices.Equal(fieldsOf(o), want)
}

// untranslated reports whether the kernel sent on what a backend sent as its own, where naru has it from the VIP.
func (o *outcome) untranslated() bool {
	fields := slices.DeleteFunc(fieldsOf(o), func(f string) bool { return f == "ip checksum" })
	return slices.Equal(fields, []string{"ip source", "tcp source port", "tcp checksum"})
}

// fieldsOf returns the names of the fields that differ.
func fieldsOf(o *outcome) (fields []string) {
	for _, d := range o.differs {
		fields = append(fields, strings.SplitN(d, ":", 2)[0])
	}
	return fields
}
