package kernel_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"naru/internal/host"
	"naru/internal/kernel"
)

func TestHintsAboutReceiveQueues(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	sys := fstest.MapFS{
		"class/net/one/ifindex": file("1\n"), "class/net/set/ifindex": file("2\n"), "class/net/many/ifindex": file("3\n"),
		"class/net/other/ifindex":              file("7\n"),
		"class/net/other/queues/rx-0/rps_cpus": file("0\n"),
		"class/net/one/queues/rx-0/rps_cpus":   file("0\n"),
		"class/net/set/queues/rx-0/rps_cpus":   file("00000000,00000003\n"),
		"class/net/many/queues/rx-0/rps_cpus":  file("0\n"),
		"class/net/many/queues/rx-1/rps_cpus":  file("0\n"),
	}
	all := []host.Link{{Name: "one", Index: 1}, {Name: "set", Index: 2}, {Name: "many", Index: 3}, {Name: "none", Index: 4},
		{Name: "other", Index: 8}}
	for cpus, want := range map[int]string{1: "", 2: "one echo 3 >", 4: "one echo f >|many echo f >", 40: "one echo ff,ffffffff >|many echo ff,ffffffff >"} {
		var got []string
		for _, h := range kernel.Hints(sys, all, cpus) {
			name, rest, _ := strings.Cut(h, " ")
			_, mask, _ := strings.Cut(rest, "do ")
			got = append(got, name+" "+strings.TrimSuffix(mask, " $f; done"))
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%d processors: %q, want %q", cpus, s, want)
		}
	}
}
