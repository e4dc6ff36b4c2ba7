package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Exec turns the calling process into another program that runs in a node: its terminal, its signals and its exit code
// are the caller's own. Names resolve as in the node. "naru" is the calling program where no other is found, and talks to
// the lab's naru. It returns only if it fails; errors wrap exec.ErrNotFound for a program that is not there.
func (l *Lab) Exec(node string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("lab: exec: no command given")
	}
	if l.topology.Node(node) == nil {
		return fmt.Errorf("lab: %s has no node %q; there are %s", l.Name, node, strings.Join(l.Nodes, ", "))
	}
	program, err := exec.LookPath(argv[0])
	if err != nil && argv[0] == "naru" {
		program, err = os.Executable()
	}
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	// The thread never comes back: either it becomes the program, or the caller reports the error and ends.
	runtime.LockOSThread()
	name := namespaceName(l.Name, node)
	ns, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	if err := privateMounts(name); err != nil {
		return err
	}
	if err := unix.Exec(program, argv, append(os.Environ(), "NARU_SOCKET="+l.socket())); err != nil {
		return fmt.Errorf("lab: exec: %s: %w", program, err)
	}
	return nil
}

// socket is where the lab's naru takes commands.
func (l *Lab) socket() string { return filepath.Join(l.Dir(), "naru.sock") }

// privateMounts gives the calling thread mounts of its own in which the namespace's files stand for those of /etc and
// /sys shows the namespace's interfaces.
func privateMounts(namespace string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("lab: exec: mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("lab: exec: mounts: %w", err)
	}
	_ = unix.Mount("sysfs", "/sys", "sysfs", 0, "") // without it only /sys/class/net is wrong
	dir := filepath.Join(etcDir, namespace)
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("lab: exec: %w", err)
	}
	for _, f := range files {
		from, to := filepath.Join(dir, f.Name()), filepath.Join("/etc", f.Name())
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("lab: exec: %s: %w", to, err)
		}
	}
	return nil
}
