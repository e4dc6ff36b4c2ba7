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
func statusCommand() *cli.Command  { return elsewhere("status", "Other") }
func eventsCommand() *cli.Command  { return elsewhere("events", "Other") }
func drainCommand() *cli.Command   { return elsewhere("drain", "Other") }
func readyCommand() *cli.Command   { return elsewhere("ready", "Other") }
func disableCommand() *cli.Command { return elsewhere("disable", "Other") }
func weightCommand() *cli.Command  { return elsewhere("weight", "Other") }
func reloadCommand() *cli.Command  { return elsewhere("reload", "Other") }
func labCommand() *cli.Command     { return elsewhere("lab", "Other") }
func benchCommand() *cli.Command   { return elsewhere("bench", "Other") }
