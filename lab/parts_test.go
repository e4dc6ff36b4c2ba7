package lab

import (
	"encoding/json"
	"net/netip"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseSNMPNamesCountersByProtocol(t *testing.T) {
	const text = "Ip: Forwarding ForwDatagrams\nIp: 1 7\nTcp: MaxConn OutRsts\nTcp: -1 42\n"
	got := map[string]uint64{}
	parseSNMP(strings.NewReader(text), got)
	want := map[string]uint64{"IpForwarding": 1, "IpForwDatagrams": 7, "TcpOutRsts": 42}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestParseSNMP6(t *testing.T) {
	got := map[string]uint64{}
	parseSNMP6(strings.NewReader("Ip6OutForwDatagrams             \t3\nbroken\n"), got)
	if !reflect.DeepEqual(got, map[string]uint64{"Ip6OutForwDatagrams": 3}) {
		t.Errorf("%v", got)
	}
}

func TestAddresses(t *testing.T) {
	v4 := make([]byte, 34)
	v4[12], v4[13] = 0x08, 0x00
	copy(v4[26:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	src, dst, ok := addresses(v4)
	if !ok || src != netip.MustParseAddr("10.0.0.1") || dst != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("%v %v %v", src, dst, ok)
	}
	for _, short := range [][]byte{nil, v4[:13], v4[:33]} {
		if _, _, ok := addresses(short); ok {
			t.Errorf("%d bytes are no packet", len(short))
		}
	}
}

func TestAProcessIsKnownByItsStart(t *testing.T) {
	me := self()
	if !me.alive() {
		t.Error("the calling process is not alive")
	}
	other := me
	other.Start--
	if other.alive() {
		t.Error("another process with the same pid is taken for this one")
	}
	if err := other.end(time.Second); err != nil { // would end the test
		t.Error(err)
	}
}

func TestEndKillsWhatDoesNotEnd(t *testing.T) {
	for name, script := range map[string]string{
		"a process that ends":     "echo; sleep 60",
		"a process that does not": "trap '' TERM; echo; while :; do sleep 60; done",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", script)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_, _ = out.Read(make([]byte, 1)) // the trap is set
			start, _ := processStart(cmd.Process.Pid)
			p := Process{PID: cmd.Process.Pid, Start: start}
			if err := p.end(100 * time.Millisecond); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // killed
			if p.alive() {
				t.Error("still alive")
			}
		})
	}
}

func TestStateSurvivesTheFile(t *testing.T) {
	want := State{Name: "x", Scenario: "fullnat", Options: Options{FreePool: true}, Nodes: []string{"client"},
		Processes: []Process{{"director", roleNaru, 1, 2}}, Up: true, Created: time.Unix(1, 0).UTC()}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got State
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func TestTheTailOfALogIsOneLine(t *testing.T) {
	for log, want := range map[string]string{
		"":                                "it said nothing",
		"one\n":                           "one",
		"1\n2\n3\n4\n5\n6\n":              "2; 3; 4; 5; 6",
		"1\npanic: x\n3\n4\n5\n6\n7\n8\n": "panic: x; 3; 4; 5; 6",
	} {
		if got := tail(log); got != want {
			t.Errorf("%q: %q, want %q", log, got, want)
		}
	}
}

func TestJoinPutsTheHopsOfAPacketInOrder(t *testing.T) {
	s := fullNAT()
	l := &Lab{scenario: s, topology: s.Topology(Options{})}
	client, vip := netip.MustParseAddrPort("10.20.40.80:40000"), netip.MustParseAddrPort("200.100.50.25:80")
	local, backend := netip.MustParseAddrPort("10.10.10.254:1024"), netip.MustParseAddrPort("10.10.10.1:80")
	mac := func(a string) [6]byte { return MAC(netip.MustParseAddr(a)) }
	syn := func(from, to string, src, dst netip.AddrPort) sighting {
		return sighting{src: src, dst: dst, kind: "SYN", seq: 1, srcMAC: mac(from), dstMAC: mac(to)}
	}
	synAck := func(from, to string, src, dst netip.AddrPort) sighting {
		return sighting{src: src, dst: dst, kind: "SYN-ACK", seq: 5, ack: 2, srcMAC: mac(from), dstMAC: mac(to)}
	}
	toRouter := syn("10.20.40.80", "10.20.40.1", client, vip)
	toNaru := syn("200.100.50.1", "200.100.50.2", client, vip)
	toServer := syn("10.10.10.254", "10.10.10.1", local, backend)
	fromServer := synAck("10.10.10.1", "10.10.10.254", backend, local)
	fromNaru := synAck("200.100.50.2", "200.100.50.1", vip, client)
	toClient := synAck("10.20.40.1", "10.20.40.80", vip, client)
	other := syn("10.20.40.80", "10.20.40.1", netip.MustParseAddrPort("10.20.40.80:40001"), vip)
	other.seq = 9
	got := l.join([][]sighting{
		{other, toRouter, toRouter, toClient},
		{fromServer, toServer},
		{fromNaru, toNaru},
		{toServer, fromServer}, // the other cable of a switch
	}, client)
	want := []journey{{toRouter, toNaru, toServer}, {fromServer, fromNaru, toClient}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}
