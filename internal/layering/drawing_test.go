package layering

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// may is the drawing of docs/design.md: a package, and which of ours it may import.
var may = map[string]string{
	"internal/wire":      "",
	"internal/state":     "",
	"sched":              "internal/state",
	"nat":                "internal/wire internal/state",
	"dsr":                "internal/wire",
	"internal/conntrack": "internal/wire internal/state",
	"internal/neigh":     "internal/wire",
	"internal/frag":      "internal/wire internal/state",
	"internal/steer":     "internal/wire",
	"internal/affinity":  "internal/wire internal/state",
	"forwarder": "internal/wire sched internal/affinity internal/conntrack internal/neigh internal/frag internal/steer nat " +
		"dsr internal/state",

	"internal/roster": "internal/wire forwarder internal/state",
	"internal/admin":  "",
	"internal/health": "",

	"internal/link":          "internal/wire",
	"internal/link/afpacket": "internal/wire internal/link",
	"internal/link/afxdp":    "internal/wire internal/link",
	"internal/link/memory":   "internal/wire internal/link",
	"internal/link/pcapfile": "internal/wire",
	"internal/link/linktest": "internal/wire internal/link",

	"internal/pcapfilter": "",

	"internal/config":  "sched",
	"internal/host":    "",
	"internal/kernel":  "internal/host",
	"internal/compile": "internal/wire sched forwarder internal/roster internal/config internal/host",
	"internal/backend": "internal/wire",
	"internal/record":  "internal/wire internal/conntrack internal/pcapfilter forwarder",
	"internal/flowlog": "internal/wire forwarder internal/record",
	"internal/explain": "internal/wire forwarder internal/record internal/config",
	"internal/director": "internal/wire sched internal/conntrack forwarder internal/link internal/config " +
		"internal/record internal/explain internal/flowlog internal/kernel internal/compile internal/roster internal/health internal/admin",

	"internal/replay": "internal/wire internal/conntrack nat forwarder internal/config internal/host internal/compile " +
		"internal/roster internal/record internal/link/pcapfile internal/state",

	"lab/server": "",
	"lab":        "lab/server internal/record internal/backend sched",
	"lab/bench":  "lab internal/backend",
	"cmd/naru": "internal/wire forwarder internal/link internal/link/afpacket internal/link/afxdp internal/config internal/kernel " +
		"internal/record internal/admin internal/director internal/backend lab lab/server lab/bench " +
		"internal/host internal/compile internal/explain internal/replay internal/link/pcapfile internal/schedbench sched internal/steer",

	"internal/schedbench": "internal/wire sched forwarder internal/roster internal/link/pcapfile",

	"internal/oracle/ipvs":    "internal/wire sched",
	"internal/oracle/proxies": "",

	"internal/wiretest": "internal/wire internal/link/pcapfile",
	"internal/layering": "",
}

// testOnly are packages that only tests may import.
var testOnly = []string{"internal/wiretest", "internal/link/linktest", "internal/layering"}

// decoders are the packages that may import a library for reading and building captures.
var decoders = []string{"lab", "internal/wiretest"}

func TestImportsPointDownTheDrawing(t *testing.T) {
	s := load(t)
	for _, dir := range slices.Sorted(maps.Keys(s.packages)) {
		allowed, known := may[dir]
		if !known {
			t.Errorf("package %s is unknown: add it to the table here and to the drawing in docs/design.md", dir)
			continue
		}
		for _, f := range s.packages[dir] {
			for path, node := range f.imports() {
				own, ours := strings.CutPrefix(path, module+"/")
				switch {
				case ours && slices.Contains(testOnly, own):
					t.Errorf("%s: %s is for tests only", s.position(node), own)
				case ours && !slices.Contains(strings.Fields(allowed), own):
					t.Errorf("%s: %s may not import %s", s.position(node), dir, own)
				case strings.HasPrefix(path, "github.com/google/gopacket") && !slices.Contains(decoders, dir):
					t.Errorf("%s: %s imports %s, which decodes captures and is slow", s.position(node), dir, path)
				}
			}
		}
	}
	for dir := range may {
		if s.packages[dir] == nil {
			t.Errorf("the table has package %s, the repository has not", dir)
		}
	}
}

func TestNoDrawingInCircles(t *testing.T) {
	// What a package may import must be drawn below it: then the compiler's own check for cycles is never the first.
	below := map[string]int{}
	var depth func(dir string, seen []string) int
	depth = func(dir string, seen []string) int {
		if slices.Contains(seen, dir) {
			t.Fatalf("the table goes round: %s", strings.Join(append(seen, dir), " > "))
		}
		if n, done := below[dir]; done {
			return n
		}
		n := 0
		for _, d := range strings.Fields(may[dir]) {
			if _, known := may[d]; !known {
				t.Errorf("%s may import %s, which is not in the table", dir, d)
			}
			n = max(n, depth(d, append(seen, dir))+1)
		}
		below[dir] = n
		return n
	}
	for dir := range may {
		depth(dir, nil)
	}
}
