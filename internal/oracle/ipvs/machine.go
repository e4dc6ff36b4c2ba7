package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What is in the initial file system besides this program.
const (
	modulesFile = "/modules" // names of module files, in the order in which they are loaded
	casesFile   = "/cases"
)

// resultMark begins the lines with results on the second console.
const resultMark = "result "

// emulator is the program that is the machine. It emulates the processor too: then it needs no rights, and its clock can
// jump ahead while nothing happens.
const emulator = "qemu-system-x86_64"

// archive writes an initial file system: an archive of cpio in its format "newc", compressed.
type archive struct {
	*gzip.Writer
	err error
}

// add adds a file with a mode as of stat(2).
func (a *archive) add(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	name = strings.TrimPrefix(name, "/")
	// Magic, inode, mode, owner, group, links, time, size, device and special device (two each), length of the name, sum.
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	for _, part := range [][]byte{[]byte(head), data} {
		part = append(part[:len(part):len(part)], make([]byte, -len(part)&3)...)
		if _, a.err = a.Write(part); a.err != nil {
			return
		}
	}
}

// image writes the initial file system: this program as the first process, the modules and the cases.
func image(w io.Writer, self []byte, modules []module, all []Case) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := &archive{Writer: z}
	a.add("/init", 0o100755, self)
	var names []string
	for _, m := range modules {
		names = append(names, "/"+m.name+".ko")
		a.add("/"+m.name+".ko", 0o100644, m.data)
	}
	a.add(modulesFile, 0o100644, []byte(strings.Join(names, "\n")))
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	a.add(casesFile, 0o100644, data)
	a.add("TRAILER!!!", 0, nil)
	if a.err != nil {
		return a.err
	}
	return z.Close()
}

// run starts the machine and returns what it said. The console's text is left in the directory.
func run(ctx context.Context, dir string, k *kernel, all []Case) ([]Result, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	self, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var initial bytes.Buffer
	if err := image(&initial, self, k.modules, all); err != nil {
		return nil, err
	}
	initrd, console := filepath.Join(dir, "initrd"), filepath.Join(dir, "console")
	if err := os.WriteFile(initrd, initial.Bytes(), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, emulator, "-accel", "tcg", "-icount", "shift=auto,sleep=off", "-m", "512",
		"-nodefaults", "-display", "none", "-no-reboot", "-kernel", k.image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off", "-serial", "file:"+console, "-serial", "stdio")
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); ctx.Err() != nil {
		return nil, fmt.Errorf("the machine was not finished: %w%s", ctx.Err(), tail(console))
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w %s%s", emulator, err, problems.String(), tail(console))
	}
	results, err := parse(out.String())
	if err != nil {
		return nil, err
	}
	if len(results) != len(all) {
		return nil, fmt.Errorf("the machine ended after %d of %d cases%s", len(results), len(all), tail(console))
	}
	return results, nil
}

// parse reads what the machine said on its second console.
func parse(text string) ([]Result, error) {
	var results []Result
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if problem, ok := strings.CutPrefix(line, "error "); ok {
			return nil, fmt.Errorf("the machine: %s", problem)
		}
		if line, ok := strings.CutPrefix(line, resultMark); ok {
			var r Result
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return nil, fmt.Errorf("the machine said %q: %w", line, err)
			}
			results = append(results, r)
		}
	}
	return results, nil
}

// tail is the end of the console's text.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return ""
	}
	return "\nThe console's end:\n" + string(data[max(0, len(data)-2000):])
}
