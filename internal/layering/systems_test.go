package layering

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestWhatMovesNoPacketsBuildsOnAnySystem holds that everything else in cmd/naru, as naru replay and naru explain, comes
// without the packages that are of Linux alone: one file without a build tag is enough to bring them in.
func TestWhatMovesNoPacketsBuildsOnAnySystem(t *testing.T) {
	linux := []string{"naru/internal/link/afpacket", "naru/internal/link/afxdp", "naru/internal/kernel", "naru/internal/director",
		"naru/lab", "github.com/google/nftables", "github.com/vishvananda/netns"}
	for _, system := range []string{"linux", "darwin", "windows", "freebsd"} {
		list := exec.Command("go", "list", "-deps", "./cmd/naru")
		list.Dir, list.Env = root, append(os.Environ(), "GOOS="+system, "GOARCH=amd64", "CGO_ENABLED=0")
		list.Stderr = os.Stderr
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			if found := slices.Contains(linux, dep); found && system != "linux" {
				t.Errorf("%s: %s would be built", system, dep)
			}
		}
		if n := strings.Count(string(out), "naru/internal/replay\n"); n != 1 {
			t.Errorf("%s: naru replay is not built", system)
		}
	}
}
