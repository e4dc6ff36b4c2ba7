package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"naru/internal/config"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:        "config",
		Usage:       "help with writing a configuration",
		Category:    "Run",
		Description: "naru config example > naru.yaml",
		Subcommands: []*cli.Command{configExampleCommand()},
	}
}

func configExampleCommand() *cli.Command {
	return &cli.Command{
		Name:      "example",
		Usage:     "print a commented configuration",
		ArgsUsage: "[MODE]",
		Category:  "Run",
		Description: "naru config example l2dsr > naru.yaml\n\n" +
			"MODE is one of " + strings.Join(config.ExampleModes(), ", ") + "; the first one if not given.",
		Action: configExample,
	}
}

func configExample(c *cli.Context) error {
	mode := config.ExampleModes()[0]
	switch c.NArg() {
	case 0:
	case 1:
		mode = c.Args().First()
	default:
		return usagef("too many arguments: %q; it takes one MODE", c.Args().Get(1))
	}
	text, err := config.Example(mode)
	if err != nil {
		return withCode(exitUsage, err)
	}
	_, err = fmt.Fprint(c.App.Writer, text)
	return err
}
