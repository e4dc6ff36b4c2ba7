//go:build !linux

package main

import (
	"errors"
	"runtime"

	"github.com/urfave/cli/v2"

	"naru/internal/link"
)

// openSender says that there is nothing to send with.
func openSender(string) (link.Device, error) {
	return nil, withCode(exitPermission, errors.New("-i needs Linux; this is "+runtime.GOOS))
}

// elsewhere is a command that needs Linux, where there is none. It is known, so that one learns why it does not run.
func elsewhere(name, category string) *cli.Command {
	return &cli.Command{
		Name: name, Category: category, Usage: "needs Linux", SkipFlagParsing: true,
		Action: func(*cli.Context) error {
			return withCode(exitPermission, errors.New("needs Linux; this is "+runtime.GOOS))
		},
	}
}

func runCommand() *cli.Command     { return elsewhere("run", "Other") }
func backendCommand() *cli.Command { return elsewhere("backend", "Other") }
func fenceCommand() *cli.Command   { return elsewhere("fence", "Other") }
func labCommand() *cli.Command     { return elsewhere("lab", "Other") }
func benchCommand() *cli.Command   { return elsewhere("bench", "Other") }
