package config

import (
	"embed"
	"fmt"
	"slices"
)

//go:embed examples/*.yaml
var examples embed.FS

// Example returns a commented configuration for a mode of ExampleModes. It loads without an error or a warning. The error
// names the modes.
func Example(mode string) (string, error) {
	if !slices.Contains(ExampleModes(), mode) {
		return "", fmt.Errorf("unknown mode %s; use one of %s", quoted(mode), listed(ExampleModes()))
	}
	text, err := examples.ReadFile("examples/" + mode + ".yaml")
	if err != nil {
		return "", fmt.Errorf("config: example %s: %w", mode, err)
	}
	return string(text), nil
}

// ExampleModes returns the modes that Example takes: those of a service, and one of each encapsulation of l3dsr.
func ExampleModes() []string {
	var names []string
	for _, mode := range modeNames() {
		if !modes[mode].l3dsr {
			names = append(names, mode)
			continue
		}
		for _, encap := range encapNames() {
			names = append(names, mode+"-"+encap)
		}
	}
	return names
}
