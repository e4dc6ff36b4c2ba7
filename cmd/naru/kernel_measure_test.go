package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"naru/internal/compile"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// How long to wait for what the kernel sent the last time, and for nothing.
const (
	kernelPatience = time.Minute
	kernelSilence  = 10 * time.Millisecond
)

// kernelServices are those of the configurations in testdata/kernel.
var kernelServices = []wiretest.OracleService{
	{VIP: netip.MustParseAddrPort("192.0.2.1:80"), Backend: netip.MustParseAddrPort("10.255.2.10:8080"), Proto: wire.ProtoTCP},
	{VIP: netip.MustParseAddrPort("192.0.2.2:53"), Backend: netip.MustParseAddrPort("10.255.2.10:5353"), Proto: wire.ProtoUDP},
	{VIP: netip.MustParseAddrPort("[2001:db8:2::1]:80"), Backend: netip.MustParseAddrPort("[fd00:b::10]:8080"), Proto: wire.ProtoTCP},
	{VIP: netip.MustParseAddrPort("[2001:db8:2::2]:53"), Backend: netip.MustParseAddrPort("[fd00:b::10]:5353"), Proto: wire.ProtoUDP},
}

// madeUp are the addresses of the host that a replay makes up, in one family.
func madeUp(local, backend string, legs [2]string, router string) *wiretest.OracleAddrs {
	a := &wiretest.OracleAddrs{Local: netip.MustParseAddr(local), Backend: netip.MustParseAddr(backend),
		Router: netip.MustParseAddr(router)}
	for i, leg := range legs {
		a.Legs[i] = netip.MustParsePrefix(leg)
	}
	return a
}

// kernelFor sets the kernel up as the configuration of a mode says.
func kernelFor(t *testing.T, mode, name string) *wiretest.Oracle {
	t.Helper()
	if mode == "l2dsr" || mode == "dscp" {
		var rules []wiretest.OracleRedirect
		for i, s := range kernelServices {
			r := wiretest.OracleRedirect{VIP: s.VIP.Addr()}
			if mode == "dscp" {
				r.Backend, r.DSCP = s.Backend.Addr(), uint8(28+i%2)
			}
			rules = append(rules, r)
		}
		return wiretest.NewStatelessOracle(t, rules, &kernelMACs)
	}
	s := wiretest.OracleSetup{MTU: [2]int{9000, kernelMTU}, Services: kernelServices, SNAT: mode == "fullnat", MACs: &kernelMACs,
		IPv4: madeUp("10.255.2.1", "10.255.2.10", [2]string{"198.19.255.1/32", "198.19.255.2/32"}, "198.19.254.1"),
		IPv6: madeUp("fd00:b::1", "fd00:b::10", [2]string{"2001:2:0:ffff::1/128", "2001:2:0:ffff::2/128"}, "2001:2:0:fffe::1")}
	if name == "back" {
		s.MTU = [2]int{kernelMTU, 9000}
	}
	if mode == "host" {
		s.Services = nil
		for _, service := range kernelServices {
			vip := service.VIP.Addr()
			s.Host = append(s.Host, netip.PrefixFrom(vip, vip.BitLen()))
		}
	}
	return wiretest.NewOracleFor(t, s)
}

// TestTheKernelStillAnswersSo puts every capture through the kernel and wants what is stored to come out; with
// NARU_REGEN=1 it stores what comes out.
func TestTheKernelStillAnswersSo(t *testing.T) {
	wiretest.Root(t)
	if kernelMACs != [2]wire.MAC{compile.LegMAC(0), compile.LegMAC(1)} {
		t.Fatalf("a replay has other MAC addresses than %v", kernelMACs)
	}
	kernelSubtests(t, func(t *testing.T, path string, k *kernelCase) {
		stored, err := k.read(path + kernelOutput)
		regen := os.Getenv("NARU_REGEN") != ""
		if err != nil && !regen {
			t.Fatal(err)
		}
		now := k.measure(kernelFor(t, k.mode, filepath.Base(path)), stored)
		if err == nil {
			err = k.changed(stored, now)
		}
		switch {
		case err != nil && regen:
			writeCompressed(t, path+kernelOutput, k.capture(now))
		case err != nil:
			t.Error(err)
		}
	})
}

// changed returns where the kernel sends something else than it did, but for what it draws.
func (k *kernelCase) changed(stored, now [][]kernelSent) (err error) {
	for i, s := range k.steps {
		diff := differences(stored[i], now[i])
		if diff == nil || (s.choice == choiceAnswer || s.choice == choicePort) && s.choice.may(diff) ||
			s.fragment && sameDatagrams(stored[i], now[i]) {
			continue
		}
		err = errors.Join(err, fmt.Errorf("packet %d, %s: the kernel now sends something else: %v%s%s", i+1, s.what, diff,
			hexFrames("stored", stored[i]), hexFrames("now   ", now[i])))
	}
	return err
}

// sameDatagrams reports whether fragments make the same datagrams: the kernel draws identifications for those over IPv6.
func sameDatagrams(a, b []kernelSent) bool {
	wholeA, leftA := wiretest.Datagrams(bytesOf(a))
	wholeB, leftB := wiretest.Datagrams(bytesOf(b))
	return leftA == 0 && leftB == 0 && len(a) == len(b) && slices.EqualFunc(wholeA, wholeB, bytes.Equal)
}

func bytesOf(list []kernelSent) (frames [][]byte) {
	for _, f := range list {
		frames = append(frames, f.frame)
	}
	return frames
}

// measure puts every frame in and returns what the kernel sends for each: it waits for as many frames as it sent the
// last time.
func (k *kernelCase) measure(oracle *wiretest.Oracle, last [][]kernelSent) [][]kernelSent {
	k.t.Helper()
	out := make([][]kernelSent, len(k.steps))
	for i, s := range k.steps {
		want := 0
		if last != nil {
			want = len(last[i])
		}
		frames := oracle.Step(k.t, s.side, append([]byte(nil), s.frame...), kernelSilence)
		for end := time.Now().Add(kernelPatience); len(frames) < want && time.Now().Before(end); {
			frames = append(frames, oracle.Await(k.t, kernelSilence)...)
		}
		for _, f := range frames {
			out[i] = append(out[i], kernelSent{f.Side, f.Frame})
		}
	}
	return out
}
