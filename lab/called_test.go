package lab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHintsCallTheProgramAsItWasCalled(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	program, other := filepath.Join(here, "naru"), filepath.Join(there, "naru")
	for _, path := range []string{program, other} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ path, by, want string }{
		{"", program, program},
		{there, program, program},
		{here, program, "naru"},
		{here, "naru", "naru"},
		{"", "/tmp/tests/lab.test", "naru"},
	} {
		t.Setenv("PATH", c.path)
		if got := called(c.by); got != c.want {
			t.Errorf("called by %s with the path %q: %q, want %q", c.by, c.path, got, c.want)
		}
	}
}
