//go:build linux

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"naru/lab"
)

func labDemoCommand() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "show ten requests, and one of them packet by packet",
		ArgsUsage: "[SCENARIO...]",
		Description: "naru lab demo\nnaru lab demo l3dsr-ipip\n\n" +
			"Without a SCENARIO it shows full NAT and direct server return, and what the same answer costs naru in each.",
		Action: func(c *cli.Context) error {
			scenarios := c.Args().Slice()
			if len(scenarios) == 0 {
				scenarios = []string{"fullnat", "l2dsr"}
			}
			for _, name := range scenarios {
				if _, err := lab.FindScenario(name); err != nil {
					return usagef("%w", plain(err))
				}
			}
			if err := needRoot(); err != nil {
				return err
			}
			ctx, cancel := interruptible()
			defer cancel()
			return labError(ctx, lab.Demo(ctx, c.App.Writer, "", scenarios...))
		},
	}
}

// scenarioOf returns what an argument names: a scenario, or the lab of that name with its options. Without one it is
// the only lab that is up, and without a lab the classic example.
func scenarioOf(c *cli.Context) (*lab.Scenario, lab.Options, error) {
	if c.NArg() > 1 {
		return nil, lab.Options{}, usagef("name one SCENARIO or lab")
	}
	name := c.Args().First()
	if name != "" {
		if sc, err := lab.FindScenario(name); err == nil {
			return sc, lab.Options{}, nil
		}
	}
	l, err := lab.Open(name)
	switch {
	case err == nil:
		return l.Scenario(), l.Options, nil
	case name != "":
		return nil, lab.Options{}, usagef("there is neither a scenario nor a lab %q; naru lab list shows both", name)
	}
	states, _ := lab.List() // an unreadable list is that of no labs
	for _, s := range states {
		if !s.Private {
			return nil, lab.Options{}, labError(c.Context, err) // several: one must be named
		}
	}
	return lab.Scenarios()[0], lab.Options{}, nil
}

func labExplainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "show a request packet by packet, every hop of it, and why",
		ArgsUsage: "[SCENARIO|NAME]",
		Description: "naru lab explain l2dsr\n\n" +
			"The request is made in a lab of its own, built like the one that is named. At every hop it shows the MAC and\n" +
			"IP addresses, the DSCP and the outer header of a tunnel; then the way of the reply, and how many bytes of an\n" +
			"answer pass naru, compared with full NAT.",
		Action: func(c *cli.Context) error {
			sc, o, err := scenarioOf(c)
			if err != nil {
				return err
			}
			if err := needRoot(); err != nil {
				return err
			}
			ctx, cancel := interruptible()
			defer cancel()
			o.NoNaru = false
			return labError(ctx, lab.Explain(ctx, c.App.Writer, "", sc.Name, o))
		},
	}
}

func labGraphCommand() *cli.Command {
	return &cli.Command{
		Name:        "graph",
		Usage:       "draw a scenario or a lab",
		ArgsUsage:   "[SCENARIO|NAME]",
		Description: "naru lab graph l2dsr\nnaru lab graph l2dsr --format dot | dot -Tsvg > l2dsr.svg",
		Flags: []cli.Flag{&cli.StringFlag{Name: "format", EnvVars: []string{"NARU_FORMAT"}, Value: "ascii",
			Usage: "draw as `FORMAT`: " + strings.Join(lab.GraphFormats(), ", ")}},
		Action: func(c *cli.Context) error {
			sc, o, err := scenarioOf(c)
			if err != nil {
				return err
			}
			text, err := lab.Graph(sc, o, c.String("format"))
			if err != nil {
				return usagef("%w", plain(err))
			}
			_, err = fmt.Fprint(c.App.Writer, text)
			return err
		},
	}
}
