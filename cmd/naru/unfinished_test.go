package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAnInterruptedReplayLeavesNoHalfFiles interrupts one that waits for more of its capture.
func TestAnInterruptedReplayLeavesNoHalfFiles(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, flows := filepath.Join(dir, "out.pcapng"), filepath.Join(dir, "flows.jsonl")
	cmd := exec.Command(exe, "replay", "-c", goldenFolder+"naru.yaml", "-", "--out", out, "--flows", flows,
		"--expect", goldenFolder+"golden")
	cmd.Env = append(os.Environ(), asNaru+"=1", "TMPDIR="+dir)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	if _, err := in.Write(goldenCapture(t)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if parts, _ := filepath.Glob(flows + ".*"); len(parts) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nothing is written: %s", errs.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(errs.String(), "interrupted; ") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestAReplayThatFailsLeavesNoHalfFiles(t *testing.T) {
	broken := append(goldenCapture(t), 6, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0) // a block that is shorter than a block can be
	inFolder(t, map[string]string{"good.yaml": example(t), "broken": string(broken)})
	code, _, errs := naru("", "replay -c good.yaml broken --out out --flows flows --counters /dev/null --state-out state")
	if code != exitFailed || !strings.Contains(errs, "broken: pcapfile: at byte ") {
		t.Errorf("exit %d: %s", code, errs)
	}
	left, err := os.ReadDir(".")
	if err != nil || len(left) != 2 {
		t.Errorf("%v is left, %v", left, err)
	}
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Fatal("what is no file of its own was removed")
	}
}

// TestAReplayReplacesFilesWhenItIsWhole: until then, and if it fails, what was there stays.
func TestAReplayReplacesFilesWhenItIsWhole(t *testing.T) {
	capture := goldenCapture(t)
	inFolder(t, map[string]string{"good.yaml": example(t), "broken": string(append(slices.Clone(capture), 6, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0)),
		"whole": string(capture), "out": "precious", "flows": "precious", "state": "precious"})
	if err := errors.Join(os.Chmod("flows", 0o640), os.Symlink("out", "link")); err != nil {
		t.Fatal(err)
	}
	const line = "replay -q -c good.yaml %s --out link --flows flows --state-out state"
	for _, c := range []struct {
		capture string
		code    int
	}{{"broken", exitFailed}, {"whole", 0}} {
		if code, _, errs := naru("", fmt.Sprintf(line, c.capture)); code != c.code {
			t.Fatalf("%s: exit %d: %s", c.capture, code, errs)
		}
		for _, name := range []string{"out", "flows", "state"} {
			if b, err := os.ReadFile(name); err != nil || (string(b) == "precious") != (c.code != 0) {
				t.Errorf("%s: %s is %.20q, %v", c.capture, name, b, err)
			}
		}
	}
	if info, err := os.Lstat("link"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced, not the file behind it")
	}
	if info, err := os.Stat("flows"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("flows has another mode: %v", info.Mode())
	}
	if parts, _ := filepath.Glob("*.part"); len(parts) > 0 {
		t.Errorf("%v is left", parts)
	}
}

// TestAFullDiskIsAnError writes every output to one, and what is printed.
func TestAFullDiskIsAnError(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	const line = "replay -q -c " + goldenFolder + "naru.yaml " + goldenFolder + "in.pcapng --"
	for _, flag := range []string{"out", "flows", "counters", "state-out"} {
		if code, _, errs := naru("", line+flag+" /dev/full"); code != exitFailed || !strings.Contains(errs, "no space left") {
			t.Errorf("--%s: exit %d: %s", flag, code, errs)
		}
	}
	for _, words := range []string{"version", "help", "config example", "replay --vip auto " + goldenFolder + "in.pcapng",
		"explain --vip auto --packet 1 --pcap " + goldenFolder + "in.pcapng"} {
		var errs bytes.Buffer
		if code := run(append([]string{"naru"}, strings.Fields(words)...), strings.NewReader(""), full, &errs); code != exitFailed ||
			!strings.Contains(errs.String(), "no space left") {
			t.Errorf("%s: exit %d: %s", words, code, errs.String())
		}
	}
}
