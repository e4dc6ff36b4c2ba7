package replay_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// busy is a configuration with every scheduler that remembers something, affinity, backups, limits and slow start.
const busy = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
defaults: {midstream: pickup}
services:
  - name: web
    vip: 200.100.50.25
    ports: [80]
    protocol: tcp
    mode: fullnat
    scheduler: SCHEDULER
    affinity: {timeout: 40s, clients: 64}
    nat: {source_pool: [10.10.10.254], source_ports: 2000-2063}
    timeouts: {tcp_syn: 5s, tcp_established: 20s}
    on_idle: rst
    backends:
      - {name: b1, address: 10.10.10.1, port: 8080, weight: 3}
      - {name: b2, address: 10.10.10.2, port: 8080, slow_start: 10s, max_connections: 30}
      - {name: b3, address: 10.10.10.3, port: 8080, backup: true}
  - name: dns
    vip: 200.100.50.26
    ports: [53]
    protocol: udp
    mode: nat
    scheduler: wrr
    backends:
      - {name: b1, address: 10.10.10.1, weight: 2}
      - {name: b2, address: 10.10.10.2}
  - name: far
    vip: 200.100.50.27
    ports: [80]
    protocol: tcp
    mode: l3dsr
    l3dsr: {encap: ipip}
    backends:
      - {name: b1, address: 10.30.0.1}
      - {name: b2, address: 10.30.0.2}
`

// later is busy after a reload: one service has another mode, one is gone, a backend is gone and one has come.
func later() string {
	s := strings.Replace(busy, "10.10.10.2, port: 8080, slow_start: 10s, max_connections: 30", "10.10.10.9, port: 8080", 1)
	s = strings.Replace(s, "source_pool: [10.10.10.254]", "source_pool: [10.10.10.253]", 1)
	at := strings.Index(s, "  - name: dns")
	return s[:at] + strings.Replace(s[strings.Index(s, "  - name: far"):], "encap: ipip", "encap: gue", 1)
}

const busyScript = `1s backend web/b2 down
3s backend web/b2 up
6s drain web/b1 4s
9s reload later
12s ready web/b1
15s weight far/b1 3
20s reload busy
24s disable dns/b2
30s reload later`

// traffic builds random packets of many clients over 40 s: connections, datagrams, fragments in any order, pings.
func traffic(t *testing.T, random *rand.Rand, n int) []byte {
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("", "")
	at := time.Duration(0)
	vips := []string{"200.100.50.25:80", "200.100.50.26:53", "200.100.50.27:80"}
	for range n {
		at += time.Duration(random.IntN(int(80 * ms)))
		vip := vips[random.IntN(len(vips))]
		client := fmt.Sprintf("10.20.%d.80:%d", random.IntN(3), 40000+random.IntN(12))
		f := wiretest.Frame{Src: client, Dst: vip, TCP: []string{"S", "A", "AP", "FA", "R"}[random.IntN(5)], Seq: 99, Ack: 1}
		if f.TCP != "S" {
			f.Seq = 100
		}
		if f.TCP == "AP" {
			f.Payload = bytes.Repeat([]byte("naru"), random.IntN(300))
		}
		if vip == vips[1] {
			f.TCP, f.UDP, f.Payload = "", true, []byte("question")
		}
		switch random.IntN(6) {
		case 0:
			f.Src, f.Dst = f.Dst, f.Src
			if f.TCP == "S" {
				f.TCP = "SA"
			}
		case 1:
			f.Src, f.Dst, f.UDP, f.TCP = "10.20.0.80", "200.100.50.25", false, ""
			f.ICMP, f.Payload = []byte{8, 0, 0, 0, 0, 1, 0, 1, 'e'}, nil
		}
		f.SrcMAC, f.DstMAC, f.ID = wire.MAC{2, 1}, wire.MAC{2, 2}, uint16(random.Uint32())
		for _, frame := range fragments(f.Bytes(t), random) {
			w.Packet(0, 1e18+int64(at), frame, len(frame), "")
			at += time.Duration(random.IntN(int(10 * ms)))
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fragments cuts some of the longer frames, and sometimes loses a fragment or changes the order.
func fragments(frame []byte, random *rand.Rand) (out [][]byte) {
	const head = wire.EthernetLen + wire.IPv4Len
	if len(frame) < head+100 || random.IntN(2) == 0 {
		return [][]byte{frame}
	}
	be, step := binary.BigEndian, 8*(4+random.IntN(20))
	for from := head; from < len(frame); from += step {
		to := min(len(frame), from+step)
		f := append(bytes.Clone(frame[:head]), frame[from:to]...)
		ip := f[wire.EthernetLen:head]
		offset := uint16((from - head) / 8)
		if to < len(frame) {
			offset |= 0x2000
		}
		be.PutUint16(ip[2:], uint16(len(f)-wire.EthernetLen))
		be.PutUint16(ip[6:], offset)
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^wire.Fold(wire.Sum(ip, 0)))
		out = append(out, f)
	}
	if random.IntN(2) == 0 {
		random.Shuffle(len(out), func(i, k int) { out[i], out[k] = out[k], out[i] })
	}
	if random.IntN(4) == 0 {
		out = out[1:]
	}
	return out
}

// loader loads the configurations of scripts.
func loader(t *testing.T, texts map[string]string) func(string) (*config.Config, error) {
	return func(name string) (*config.Config, error) { return load(t, texts[name]), nil }
}

func TestPartsWithAScriptAreTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for i, scheduler := range []string{"rr", "wrr", "twos", "wlc", "mh", "sh", "sed"} {
		text := strings.Replace(busy, "SCHEDULER", scheduler, 1)
		file := traffic(t, random, 700)
		opt := replay.Options{Config: load(t, text), Script: script(t, busyScript), Seed: 7, Table: 64 << (i % 2 * 4),
			Load: loader(t, map[string]string{"busy": text, "later": strings.Replace(later(), "SCHEDULER", scheduler, 1)})}
		for name, backends := range everyBackends {
			o := opt
			if o.Backends = backends; backends == replay.Simulated {
				o.Sim = lossy
			}
			sameInParts(t, "busy "+scheduler+" "+name, o, file, random, 3)
		}
	}
}

// left is the state that a run over a capture leaves off with.
func left(t *testing.T, opt replay.Options, file []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	opt.StateOut = &b
	r, err := replay.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	feed(t, r, source(t, file), 0, nil)
	return b.Bytes()
}

func TestAStateThatDoesNotFitIsRefused(t *testing.T) {
	cfg, file := golden(t)
	good := replay.Options{Config: cfg, Seed: 1, Table: 1024, Backends: replay.Recorded}
	state := left(t, good, file)
	for _, c := range []struct {
		want  string
		wrong func(o *replay.Options, state []byte) []byte
	}{
		{"is of seed 1, this run has seed 2", func(o *replay.Options, s []byte) []byte { o.Seed = 2; return s }},
		{"is of a table of 1024 connections, this run has one of 99", func(o *replay.Options, s []byte) []byte {
			o.Table = 99
			return s
		}},
		{"is of backends recorded, this run has backends captured", func(o *replay.Options, s []byte) []byte {
			o.Backends = replay.AsCaptured
			return s
		}},
		{"is of another configuration: ", func(o *replay.Options, s []byte) []byte { o.Config = load(t, web); return s }},
		{"is no state", func(o *replay.Options, s []byte) []byte { return nil }},
		{"is no state", func(o *replay.Options, s []byte) []byte { return []byte("version: 1\n") }},
		{"was cut: it has", func(o *replay.Options, s []byte) []byte { return s[:len(s)-1] }},
		{"was added to: it has more than", func(o *replay.Options, s []byte) []byte { return append(s, 0) }},
		{"is damaged: it says that it has -1 bytes", func(o *replay.Options, s []byte) []byte { return claim(s, -1) }},
		{"is damaged: it says that it has 2147483649 bytes", func(o *replay.Options, s []byte) []byte { return claim(s, 1<<31+1) }},
		{"was cut: it has", func(o *replay.Options, s []byte) []byte { return claim(s, 1<<31) }},
		{"is no state", func(o *replay.Options, s []byte) []byte { return bytes.Repeat([]byte{' '}, 3<<20) }},
		{`is of another configuration: "\x1b[2J"`, func(o *replay.Options, s []byte) []byte {
			return seal(regexp.MustCompile(`"configuration":"[^"]*"`).ReplaceAll(s, []byte(`"configuration":"\u001b[2J"`)), values(s))
		}},
		{"is of a run whose script has reloaded /etc/passwd; give", func(o *replay.Options, s []byte) []byte {
			return rewrap(s, `"reloads":[]`, `"reloads":[{"file":"/etc/passwd"}]`)
		}},
		{"is damaged", func(o *replay.Options, s []byte) []byte { s[len(s)/2] ^= 1; return s }},
		{fmt.Sprintf("this naru reads naru/v1 %d", replay.StateFormat), func(o *replay.Options, s []byte) []byte {
			return bytes.Replace(s, fmt.Appendf(nil, `"format":%d`, replay.StateFormat), []byte(`"format":99`), 1)
		}},
	} {
		o := good
		o.StateIn = bytes.NewReader(c.wrong(&o, bytes.Clone(state)))
		_, err := replay.New(o)
		if e := (*replay.StateError)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// claim changes the length that a state says it has.
func claim(state []byte, n int) []byte {
	return regexp.MustCompile(`"length":[0-9]+`).ReplaceAll(state, fmt.Appendf(nil, `"length":%d`, n))
}

// rewrap changes the first line of a state, with a checksum that fits.
func rewrap(state []byte, from, to string) []byte {
	line, rest, _ := bytes.Cut(state, []byte{'\n'})
	return seal(append(bytes.Replace(line, []byte(from), []byte(to), 1), '\n'), rest[:len(rest)-sha256.Size])
}

func TestAReloadedConfigurationMustBeTheSame(t *testing.T) {
	texts := map[string]string{"new": strings.Replace(web, "address: 10.10.10.2", "address: 10.10.10.3", 1)}
	opt := replay.Options{Config: load(t, web), Seed: 1, Table: 1024, Script: script(t, "1ms reload new"), Load: loader(t, texts)}
	state := left(t, opt, capture(t, 1e18, syn(0, 1), syn(2*ms, 2)))
	opt.StateIn = bytes.NewReader(state)
	if _, err := replay.New(opt); err != nil {
		t.Errorf("the same configuration: %v", err)
	}
	without := opt
	without.StateIn, without.Script = bytes.NewReader(state), nil
	if _, err := replay.New(without); err == nil || !strings.Contains(err.Error(), "reloaded new; give this run the same script") {
		t.Errorf("no script: %v", err)
	}
	texts["new"], opt.StateIn = web, bytes.NewReader(state)
	if _, err := replay.New(opt); err == nil || !strings.Contains(err.Error(), "has reloaded new with the configuration") {
		t.Errorf("another configuration: %v", err)
	}
}

// seal makes a state of values that may be anything: with the length and checksum that they should have.
func seal(state, values []byte) []byte {
	line, _, _ := bytes.Cut(state, []byte{'\n'})
	var head map[string]any
	if json.Unmarshal(line, &head) != nil {
		return nil
	}
	head["length"] = len(values)
	line, _ = json.Marshal(head) // what was read can be written
	file := append(append(line, '\n'), values...)
	sum := sha256.Sum256(file)
	return append(file, sum[:]...)
}

func FuzzStateNeverPanics(f *testing.F) {
	t := &testing.T{}
	text := strings.Replace(busy, "SCHEDULER", "wrr", 1)
	file := traffic(t, rand.New(rand.NewPCG(7, 8)), 120)
	opt := replay.Options{Config: load(t, text), Seed: 7, Table: 64, Backends: replay.Simulated, Sim: lossy}
	state := left(t, opt, file)
	_, values, _ := bytes.Cut(state, []byte{'\n'})
	values = values[:len(values)-sha256.Size]
	f.Add(0, byte(0))
	for i := 0; i < len(values); i += max(1, len(values)/300) {
		f.Add(i, byte(i)|1)
	}
	f.Fuzz(func(t *testing.T, at int, change byte) {
		changed := bytes.Clone(values)
		if at >= 0 && at < len(changed) {
			changed[at] ^= change
		}
		o := opt
		o.StateIn = bytes.NewReader(seal(state, changed))
		r, err := replay.New(o)
		if err != nil {
			return // refused
		}
		feed(t, r, source(t, file), 0, nil)
	})
}
