package config

import (
	"embed"
	"fmt"
)

//go:embed examples/*.yaml
var examples embed.FS

// Example returns a commented configuration for a mode. It loads without an error or a warning. The error says why
// there is none for the mode, and what to ask for.
func Example(mode string) (string, error) {
	rules, known := modes[mode]
	switch {
	case !known:
		return "", fmt.Errorf("unknown mode %s; use one of %s", quoted(mode), listed(ExampleModes()))
	case !rules.available:
		return "", fmt.Errorf("mode %s is not available in this version of naru; use one of %s",
			mode, listed(ExampleModes()))
	}
	text, err := examples.ReadFile("examples/" + mode + ".yaml")
	if err != nil {
		return "", fmt.Errorf("config: example %s: %w", mode, err)
	}
	return string(text), nil
}

// ExampleModes returns the modes that Example takes.
func ExampleModes() []string {
	var names []string
	for _, mode := range modeNames() {
		if modes[mode].available {
			names = append(names, mode)
		}
	}
	return names
}
