package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// globalFlags are the flags that mean the same in every command that has them. They may stand in front of the command:
// permute hands them on to it, and the command judges their value.
func globalFlags() []cli.Flag {
	output := outputFlag("table", "json")
	output.Action = nil
	return []cli.Flag{configFlag(), output, quietFlag()}
}

func configFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, EnvVars: []string{"NARU_CONFIG"},
		Value: "/etc/naru/naru.yaml", Usage: "read the configuration from `FILE`, - for standard input",
	}
}

// outputFlag takes one of the formats; the first is the default.
func outputFlag(formats ...string) *cli.StringFlag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, EnvVars: []string{"NARU_OUTPUT"},
		Value: formats[0], Usage: "print as `FORMAT`: " + strings.Join(formats, " or "),
		Action: func(c *cli.Context, format string) error {
			if slices.Contains(formats, format) {
				return nil
			}
			err := usagef("%q is not a format of --output; use %s", format, strings.Join(formats, " or "))
			return &commandError{commandName(c), err}
		},
	}
}

func quietFlag() cli.Flag {
	return &cli.BoolFlag{
		Name: "quiet", Aliases: []string{"q"}, EnvVars: []string{"NARU_QUIET"}, Usage: "print errors only",
	}
}
