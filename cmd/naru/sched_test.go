package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const schedConfig = `version: 1
interfaces: [{name: eth0, side: both}]
services:
  - name: web
    vip: 192.0.2.10
    ports: [80]
    protocol: tcp
    mode: l2dsr
    scheduler: mh
    mh: {table_size: 1009}
    backends:
      - {name: b1, address: 10.0.0.1, weight: 2}
      - {name: b2, address: 10.0.0.2, max_connections: 100}
      - {name: b3, address: 10.0.0.3, weight: 0}
      - {name: b4, address: 10.0.0.4, backup: true}
`

func TestSchedList(t *testing.T) {
	code, out, _ := naru("", "sched list")
	if code != 0 || len(strings.Split(strings.TrimSpace(out), "\n")) != 10 || !strings.Contains(out, "twos  two-choices") {
		t.Errorf("exit %d\n%s", code, out)
	}
	var doc struct {
		Schedulers []struct{ Name, Words string }
	}
	if code, out, _ = naru("", "sched list -o json"); json.Unmarshal([]byte(out), &doc) != nil || code != 0 || len(doc.Schedulers) != 9 {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestSchedShow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "naru.yaml")
	if err := os.WriteFile(file, []byte(schedConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := naru("", "sched show web --offline -c "+file)
	want := `service web, scheduler mh, hash source, 1009 slots
BACKEND  STATE     WEIGHT  SLOW START  SHARE    SLOTS  MAX  BACKUP
b1       up        2       100 %       66.70 %  673    -    no
b2       up        1       100 %       33.30 %  336    100  no
b3       draining  0       100 %       0.00 %   0      -    no
b4       up        1       100 %       0.00 %   0      -    yes
`
	if code != 0 || out != want {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	if code, _, errs = naru("", "sched show web -s /nowhere/naru.sock -c "+file); code != exitNoDaemon || !strings.Contains(errs, "no naru runs") {
		t.Errorf("exit %d, %s", code, errs)
	}
	if code, _, errs = naru("", "sched show mail --offline -c "+file); code != exitUsage || !strings.Contains(errs, "no service mail") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestSchedBench(t *testing.T) {
	dir := t.TempDir()
	code, out, errs := naru("", "sched bench --schedulers rr,lc,mh --rate 200 --time 10s --mean 500ms --clients 100 --heavy 0.5/1 "+
		"--weights 1,2 --slow b1=5 --join b4=3s --leave b2=8s --slow-start 2s --bounded 1.25 --table-size 251 -o json --chart "+dir+"/c.svg")
	var doc struct {
		Connections int
		Results     []struct {
			Name    string
			Total   []int
			Buckets []struct{ New []int }
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); code != 0 || err != nil || len(doc.Results) != 4 {
		t.Fatalf("exit %d, %v, %s\n%.300s", code, err, errs, out)
	}
	for _, r := range doc.Results {
		sum := 0
		for _, n := range r.Total {
			sum += n
		}
		if sum != doc.Connections || r.Total[3] == 0 || len(r.Buckets) < 100 {
			t.Errorf("%s: %v of %d, %d buckets", r.Name, r.Total, doc.Connections, len(r.Buckets))
		}
	}
	if svg, err := os.ReadFile(dir + "/c.svg"); err != nil || !strings.Contains(string(svg), "mh bounded 1.25") {
		t.Errorf("%v, %.100q", err, svg)
	}
	if code, out, errs = naru("", "sched bench heavy-sources"); code != 0 || !strings.Contains(out, "mh bounded 1.25") {
		t.Errorf("exit %d, %s\n%s", code, errs, out)
	}
	for line, want := range map[string]string{
		"nothing":                   `there is no scenario "nothing"`,
		"newcomer --rate 5":         "--rate does not go with a scenario",
		"--schedulers rr,dh":        `"dh" is none of`,
		"--backends 0":              "--backends 0",
		"--slow b9=2":               "--slow b9=2: write b3=10, of b1 to b4",
		"--join b1=soon":            "--join b1=soon",
		"--weights 1,x":             `"x" is not a number`,
		"--heavy 2":                 "--heavy 2 is not PART/CLIENTS",
		"--heavy 2/1":               "the heavy part must be from 0 to 1",
		"--bounded 0.5":             "--bounded 0.5",
		"--table-size 250":          "--table-size 250 is not a prime",
		"--service normal":          `"normal" is no distribution`,
		"--series all":              "--series all",
		"--chart c.pdf":             "--chart c.pdf is neither",
		"--rate 0":                  "must be above 0",
		"--pcap /nowhere/none.pcap": "no such file",
	} {
		if code, _, errs := naru("", "sched bench "+line); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
}
