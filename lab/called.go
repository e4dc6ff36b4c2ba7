package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Called returns the word that calls this program again from the same shell: naru if that finds it, otherwise what it was
// called by.
func Called() string { return called(os.Args[0]) }

func called(by string) string {
	const name = "naru"
	if !strings.Contains(by, "/") || filepath.Base(by) != name {
		return name
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return by
	}
	one, oneErr := os.Stat(found)
	other, otherErr := os.Stat(by)
	if oneErr == nil && otherErr == nil && os.SameFile(one, other) {
		return name
	}
	return by
}
