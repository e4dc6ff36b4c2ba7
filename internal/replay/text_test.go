package replay_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wiretest"
)

func TestEveryMistakeOfAScriptIsTold(t *testing.T) {
	_, err := replay.ParseScript("soon drain web/b1\n3s\n3s drain web\n3s explode web/b1\n-3s ready web/b1\n" +
		"3s drain web/b1 never\n3s weight web/b1 70000\n3s reload a b\n3s backend web/b1 sideways\n3s disable web/b1 now\n1s ready web/b1\n" +
		"2562047h ready web/b1\n1s drain web/b1 2562047h\n1s drain web/b1 0s\n1s reload -\n1s weight web/b1\n1e3 ready web/b1\n" +
		"1s ready web/\n1s ready /b1\n\x00\n  # nothing\r\n\r\n3s weight web/b1 -1\n1s drain web/b1 1s 2s")
	e := (*replay.ScriptError)(nil)
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	want := []string{`line 1: "soon" is no time`, "line 2: an event is missing", `line 3: "web" is no backend`,
		`line 4: "explode S/B" is not known`, `line 5: "-3s" is no time`, `line 6: "never" is no deadline`,
		`line 7: "70000" is no weight; write 0 to 65535`, "line 8: too many words", `line 9: "backend S/B sideways" is not known`,
		`line 10: "disable S/B now" is not known`, `line 12: "2562047h" is no time after the first packet; write 3.2s, 500ms or 1m, at most`,
		`line 13: "2562047h" is no deadline`, `line 14: "0s" is no deadline`, "line 15: standard input cannot be loaded at a time; give a file",
		`line 16: "" is no weight`, `line 17: "1e3" is no time`, `line 18: "web/" is no backend`, `line 19: "/b1" is no backend`,
		`line 20: "\x00" is no time`, `line 23: "-1" is no weight`, `line 24: "1s 2s" is no deadline`}
	if len(e.Mistakes) != len(want) {
		t.Fatalf("mistakes %q", e.Mistakes)
	}
	for i, w := range want {
		if !strings.HasPrefix(e.Mistakes[i], w) {
			t.Errorf("got %q, want %q", e.Mistakes[i], w)
		}
	}
}

func TestAScriptIsCheckedBeforeItBegins(t *testing.T) {
	nine := strings.Replace(web, "name: b2", "name: b9", 1)
	texts := map[string]string{"nine": nine, "web": web, "other": strings.Replace(web, "name: eth1", "name: eth7", 1)}
	for text, want := range map[string]string{
		"1s drain web/b9":                    "line 1: there is no backend web/b9 in the configuration; it has web/b1, web/b2",
		"1s drain web/b1":                    "",
		"1s reload nine\n2s ready web/b9":    "",
		"1s reload nine\n500ms ready web/b9": "line 2: there is no backend web/b9 in the configuration; it has web/b1, web/b2",
		"1s reload nine\n1s ready web/b9":    "", // at one time in the order of the lines
		"1s ready web/b9\n1s reload nine":    "line 1: there is no backend web/b9 in the configuration; it has web/b1, web/b2",
		"1s reload nine\n2s ready web/b2":    "line 2: there is no backend web/b2 in the configuration; it has web/b1, web/b9",
		"1s reload nine\n2s reload web\n3s ready web/b9": "line 3: there is no backend web/b9 in the configuration; " +
			"it has web/b1, web/b2",
		"1s reload other": "line 1: other has other interfaces, which cannot change while naru runs; leave them as they are",
		"1s reload none":  "script line 1: reload none: none: no such file",
		"1s drain a/\x1b": `line 1: there is no backend "a/\x1b" in the configuration; it has web/b1, web/b2`,
		"1s reload other\n2s drain x/y": "line 1: other has other interfaces, which cannot change while naru runs; leave them as " +
			"they are; line 2: there is no backend x/y in the configuration; it has web/b1, web/b2",
	} {
		s, err := replay.ParseScript(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = replay.New(replay.Options{Config: load(t, web), Script: s, Table: 1024, Load: func(name string) (*config.Config, error) {
			if texts[name] == "" {
				return nil, fmt.Errorf("%s: no such file", name)
			}
			return load(t, texts[name]), nil
		}})
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// file makes a capture of one interface.
func file(t *testing.T, name string, packets ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface(name, "")
	for i, p := range packets {
		w.Packet(0, int64(i), p, len(p), "c")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTheFirstDifferenceHasAName(t *testing.T) {
	a := wiretest.Frame{Src: "10.0.0.1:1", Dst: "10.0.0.2:2", TCP: "A", Seq: 0x51aa02c0, Payload: []byte("xyz")}
	six := wiretest.Frame{Src: "[2001:db8::1]:1", Dst: "[2001:db8::2]:2", UDP: true, Payload: []byte("xyz"), VLANs: []uint16{7}}
	change := func(b []byte, at int, x byte) []byte {
		b = bytes.Clone(b)
		b[at] ^= x
		return b
	}
	v4, v6 := a.Bytes(t), six.Bytes(t)
	for _, c := range []struct {
		name      string
		got, want []byte
		text      string
	}{
		{"none", file(t, "a", v4), file(t, "a", v4), ""},
		{"tcp", file(t, "a", v4, change(v4, 41, 1)), file(t, "a", v4, v4),
			"packet 2: tcp.seq_raw 0x51aa02c1, expected 0x51aa02c0 (byte 41, bit 0)"},
		{"ethernet", file(t, "a", change(v4, 6, 0x80)), file(t, "a", v4),
			"packet 1: eth.src 0x800000000000, expected 0x000000000000 (byte 6, bit 7)"},
		{"payload", file(t, "a", change(v4, 55, 4)), file(t, "a", v4), "packet 1: payload[21] 0x7d, expected 0x79 (byte 55, bit 2)"},
		{"tag", file(t, "a", change(v6, 15, 1)), file(t, "a", v6), "packet 1: vlan.tci 0x0006, expected 0x0007 (byte 15, bit 0)"},
		{"ipv6", file(t, "a", change(v6, 25, 1)), file(t, "a", v6), "packet 1: ipv6.hlim 0x41, expected 0x40 (byte 25, bit 0)"},
		{"udp", file(t, "a", change(v6, 59, 2)), file(t, "a", v6), "packet 1: udp.srcport 0x0003, expected 0x0001 (byte 59, bit 1)"},
		{"longer", file(t, "a", append(bytes.Clone(v4), 1)), file(t, "a", v4), fmt.Sprintf("packet 1: %d bytes, expected %d", len(v4)+1, len(v4))},
		{"missing", file(t, "a", v4), file(t, "a", v4, v4), "packet 2: missing"},
		{"too many", file(t, "a", v4, v4), file(t, "a", v4), "packet 2: not expected, the expectation has 1 packets"},
		{"interface", file(t, "b"), file(t, "a"), `interface 0: "b", expected "a"`},
	} {
		got, err := replay.CompareFrames(bytes.NewReader(c.got), bytes.NewReader(c.want))
		if err != nil || got != c.text {
			t.Errorf("%s: %q %v\nwant %q", c.name, got, err, c.text)
		}
	}
	if _, err := replay.CompareFrames(bytes.NewReader(v4), bytes.NewReader(nil)); err == nil {
		t.Error("what is no capture was compared")
	}
}

func TestFlowsAndCountersDifferByTheirPath(t *testing.T) {
	for _, c := range []struct{ got, want, text string }{
		{`{"a":1,"b":{"c":[1,2]}}`, `{"a":1,"b":{"c":[1,3]}}`, "b.c[1] 2, expected 3"},
		{`{"a":1}`, `{"a":1,"x":"y"}`, `x is missing, expected "y"`},
		{`{"a":1,"z":true}`, `{"a":1}`, "z true, not expected"},
		{`{"a":1}`, `{ "a": 1 }`, ""},
	} {
		got, err := replay.CompareCounters(strings.NewReader(c.got), strings.NewReader(c.want))
		if err != nil || got != c.text {
			t.Errorf("counters %s: %q %v, want %q", c.got, got, err, c.text)
		}
		if c.text != "" {
			c.text = "line 2: " + c.text
		}
		got, err = replay.CompareFlows(strings.NewReader("{}\n"+c.got), strings.NewReader("{}\n"+c.want))
		if err != nil || got != c.text {
			t.Errorf("flows %s: %q %v, want %q", c.got, got, err, c.text)
		}
	}
	for got, want := range map[[2]string]string{{"{}\n{}\n", "{}\n"}: "line 2: not expected, the expectation has 1 lines",
		{"{}\n", "{}\n{}\n"}: "line 2: missing"} {
		if text, err := replay.CompareFlows(strings.NewReader(got[0]), strings.NewReader(got[1])); err != nil || text != want {
			t.Errorf("%q %v, want %q", text, err, want)
		}
	}
	if _, err := replay.CompareCounters(strings.NewReader("{"), strings.NewReader("{}")); err == nil {
		t.Error("half a document was compared")
	}
}

func TestAutoFindsTheService(t *testing.T) {
	for _, c := range []struct {
		name  string
		shots []shot
		want  string // in the configuration
	}{
		{"the most SYNs", []shot{syn(0, 1), {0, wiretest.Frame{Src: "1.1.1.1:5", Dst: "2.2.2.2:22", TCP: "S"}}, syn(0, 2)},
			`vip: "200.100.50.25"`},
		{"no SYN: the lower port", []shot{reply(0, 1), data(0, 1)}, `vip: "200.100.50.25"`},
		{"UDP", []shot{{0, wiretest.Frame{Src: "1.1.1.1:53", Dst: "2.2.2.2:4000", UDP: true}}}, `vip: "1.1.1.1"`},
		{"IPv6", []shot{{0, wiretest.Frame{Src: "[2001:db8::1]:4000", Dst: "[2001:db8::2]:53", UDP: true}}}, `vip: "2001:db8::2"`},
		{"a group", []shot{{0, wiretest.Frame{Src: "1.1.1.1:5000", Dst: "224.0.0.1:4000", UDP: true}}},
			`vip: "192.0.2.25"`},
		{"ICMP", []shot{{0, wiretest.Frame{Src: "1.1.1.1", Dst: "2.2.2.2", ICMP: []byte{8, 0, 0, 0, 0, 1, 0, 1}}}}, `vip: "2.2.2.2"`},
		{"nothing", nil, `vip: "192.0.2.25"`},
	} {
		for _, mode := range replay.AutoModes() {
			yaml, err := replay.Auto(source(t, capture(t, 0, c.shots...)), mode)
			if err != nil || !strings.Contains(yaml, c.want) {
				t.Errorf("%s, %s: %v\n%s", c.name, mode, err, yaml)
				continue
			}
			load(t, yaml)
		}
	}
}
