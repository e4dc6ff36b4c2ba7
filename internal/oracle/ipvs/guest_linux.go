package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guest is the first process of the virtual machine. It plays the cases, says what came out and switches the machine off.
func guest() {
	out := os.Stdout
	err := prepare()
	if tty, e := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0); e == nil {
		out = tty
	}
	if err == nil {
		err = playAll(out)
	}
	if err != nil {
		fmt.Fprintln(out, "error "+err.Error())
	}
	time.Sleep(100 * time.Millisecond) // the console is not empty yet
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// prepare makes a system of the bare kernel.
func prepare() error {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	list, err := os.ReadFile(modulesFile)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	for file, value := range map[string]string{
		"ipv4/ip_forward":             "1",
		"ipv4/conf/all/rp_filter":     "0",
		"ipv4/conf/default/rp_filter": "0",
		"ipv6/conf/all/disable_ipv6":  "1",
	} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func playAll(out *os.File) error {
	data, err := os.ReadFile(casesFile)
	if err != nil {
		return err
	}
	var all []Case
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	p, err := newPlayer()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	for i := range all {
		res, err := p.play(i, &all[i])
		if err != nil {
			res.Error = err.Error()
		}
		line, err := json.Marshal(res)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s%s\n", resultMark, line)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
