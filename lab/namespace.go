package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

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
	removeEmpty(etcDir)
	removeEmpty(namespaceDir)
	return nil
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
