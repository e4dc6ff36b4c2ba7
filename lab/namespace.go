package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	namespaceDir    = "/run/netns" // where ip-netns(8) and package netns keep named namespaces
	etcDir          = "/etc/netns" // files that stand for those of /etc in a namespace, see ip-netns(8)
	namespacePrefix = "naru-"
)

// namespaceName returns the name of a node's namespace.
func namespaceName(lab, node string) string { return namespacePrefix + lab + "-" + node }

// inNamespace runs f on a thread that is in the named namespace. Sockets that f opens and processes that it starts
// belong to the namespace for good; goroutines that it starts do not.
func inNamespace(name string, f func() error) error {
	return onThread(func() error {
		ns, err := netns.GetFromName(name)
		if err != nil {
			return fmt.Errorf("lab: namespace %s: %w", name, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("lab: namespace %s: %w", name, err)
		}
		return f()
	})
}

// createNamespace makes a named namespace and runs f in it.
func createNamespace(name string, f func() error) error {
	return onThread(func() error {
		ns, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("lab: namespace %s: %w", name, err)
		}
		defer ns.Close()
		return f()
	})
}

// onThread runs f, which may change the network namespace, on a thread of its own and brings the thread home. A thread
// that cannot be brought home stays locked, so that the runtime ends it together with its goroutine.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("lab: own namespace: %w", err)
			return
		}
		defer home.Close()
		err = f()
		if back := netns.Set(home); back != nil {
			result <- errors.Join(err, fmt.Errorf("lab: own namespace: thread lost: %w", back))
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// removeNamespace removes a named namespace, whatever there is of it. It is no error if there is nothing.
func removeNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	// A file that nothing is mounted on is left by a kill between its creation and the mount.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	err := os.Remove(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	if err := os.RemoveAll(filepath.Join(etcDir, name)); err != nil {
		return fmt.Errorf("lab: namespace %s: %w", name, err)
	}
	return nil
}

// keepNamespaceDir makes /run/netns the mount point that ip-netns(8) makes of it when it is first used. If that tool
// did it later, over namespaces that are there, these could not be removed any more. The caller has a directory in
// /etc/netns, which keeps releaseNamespaceDirs of other labs from undoing this.
func keepNamespaceDir() error {
	unlock, err := lockLabs()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return err
	}
	err = unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err != unix.EINVAL { // EINVAL: no mount point yet
		return err
	}
	if err := unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// releaseNamespaceDirs removes the directories of namespaces if nobody has one.
func releaseNamespaceDirs() {
	unlock, err := lockLabs()
	if err != nil {
		return // somebody works with them
	}
	defer unlock()
	removeEmpty(etcDir)
	if entries, err := os.ReadDir(namespaceDir); exists(etcDir) || err != nil || len(entries) > 0 {
		return
	}
	_ = unix.Unmount(namespaceDir, 0) // not a mount point, or in use: both are fine
	removeEmpty(namespaceDir)
}

// lockTime is how long others may keep the lock.
const lockTime = 5 * time.Second

// lockLabs keeps other processes out of what all labs share. The lock is one on a directory that is always there.
func lockLabs() (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(namespaceDir))
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTime); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { dir.Close() }, nil
		}
		if time.Now().After(deadline) {
			dir.Close()
			return nil, fmt.Errorf("lab: %s is locked: %w", dir.Name(), err)
		}
	}
}

// removeEmpty removes a directory that others may use too. Somebody else's files in it keep it.
func removeEmpty(dir string) { _ = os.Remove(dir) }

// namespaces returns the names of all namespaces, and of leftover directories in /etc/netns, that start with prefix.
func namespaces(prefix string) []string {
	var names []string
	seen := map[string]bool{}
	for _, dir := range []string{namespaceDir, etcDir} {
		entries, _ := os.ReadDir(dir) // nothing there: nothing to find
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) && !seen[e.Name()] {
				seen[e.Name()] = true
				names = append(names, e.Name())
			}
		}
	}
	return names
}
