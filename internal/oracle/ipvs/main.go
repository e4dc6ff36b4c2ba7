package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

func main() {
	if os.Getpid() == 1 {
		guest()
		return
	}
	pkg := flag.String("package", "", "Debian's `FILE` of a kernel, if it shall not be downloaded")
	verbose := flag.Bool("v", false, "show every case with its choices")
	limit := flag.Duration("timeout", 3*time.Minute, "for the virtual machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := oracle(ctx, *pkg, *limit, *verbose)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "oracle-ipvs:", err)
		os.Exit(2)
	case !good:
		os.Exit(1)
	}
}

// oracle does everything and reports whether all is as documented.
func oracle(ctx context.Context, pkg string, limit time.Duration, verbose bool) (bool, error) {
	if runtime.GOARCH != "amd64" {
		return false, fmt.Errorf("only for amd64: the virtual machine runs this very program")
	}
	for tool, from := range map[string]string{emulator: "qemu-system-x86", "dpkg-deb": "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false, fmt.Errorf("needs %s: apt-get install %s", tool, from)
		}
	}
	dir, err := os.MkdirTemp("", "oracle-ipvs-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if pkg == "" {
		if pkg, err = fetch(dir); err != nil {
			return false, err
		}
	}
	k, err := unpack(pkg, dir)
	if err != nil {
		return false, err
	}
	all := cases()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	theirs, err := run(ctx, dir, k, all)
	if err != nil {
		return false, err
	}
	fmt.Printf("IPVS of Linux %s, %d cases in %.0f s\n\n", k.release, len(all), time.Since(started).Seconds())
	return report(os.Stdout, all, theirs, verbose), nil
}
