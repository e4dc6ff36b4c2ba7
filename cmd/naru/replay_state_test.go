package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplayGoesOnWhereItLeftOff(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if code, out, errs := naru("", goldenLine+" -q --state-out "+state); code != 0 || out+errs != "" {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	code, out, errs := naru("", goldenLine+" --state-in "+state)
	if code != 0 || !strings.Contains(out, "read 60 packets") || errs != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{" --seed 2 --state-in " + state, exitFailed, state + ": replay: what to go on from is of seed 1, this run has seed 2"},
		{" --out " + state + " --state-in " + state, exitUsage, "would overwrite what is read from " + state},
		{" --state-out " + goldenFolder + "in.pcapng", exitUsage, "--state-out " + goldenFolder + "in.pcapng would overwrite"},
		{" --state-in -", exitUsage, "--state-in - is not possible; give a file"},
		{" --state-in " + state + ".absent", exitFailed, "no such file"},
	} {
		if code, _, errs := naru("", goldenLine+c.line); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, want %d and %q in %s", c.line, code, c.code, c.want, errs)
		}
	}
	if again, err := os.ReadFile(state); err != nil || string(again) != string(kept) {
		t.Errorf("the state has changed (%v)", err)
	}
}
