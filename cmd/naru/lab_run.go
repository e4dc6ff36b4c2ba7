package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"naru/lab"
)

func labTestCommand() *cli.Command {
	return &cli.Command{
		Name:      "test",
		Usage:     "drive traffic through a scenario and assert what must come out",
		ArgsUsage: "[SCENARIO|NAME]",
		Description: "naru lab test fullnat\n\n" +
			"Every variant of the scenario is built as a lab of its own, tested and removed. With the NAME of a\n" +
			"lab that is up, its variant alone. Exit code 7 when an assertion failed.",
		Flags:  []cli.Flag{outputFlag("table", "json")},
		Action: labTest,
	}
}

func labTest(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("name one SCENARIO or lab")
	}
	if err := needRoot(); err != nil {
		return err
	}
	spec, err := labTestSpec(c.Args().First())
	if err != nil {
		return labError(c.Context, err)
	}
	ctx, cancel := interruptible()
	defer cancel()
	start := time.Now()
	passed, asJSON := 0, c.String("output") == "json"
	spec.Report = func(r lab.Result) {
		if r.OK {
			passed++
		}
		if asJSON {
			_ = json.NewEncoder(c.App.Writer).Encode(r) // a broken pipe ends us anyway
			return
		}
		fmt.Fprintln(c.App.Writer, r)
	}
	spec.Starting = func(v lab.Variant) {
		if !asJSON {
			fmt.Fprintf(c.App.Writer, "\n%s: %s\n", spec.Scenario, v.Name)
		}
	}
	failed, err := lab.Test(ctx, spec)
	if err != nil {
		return labError(ctx, err)
	}
	if !asJSON {
		fmt.Fprintf(c.App.Writer, "\n%d ok, %d failed in %.1f s\n", passed, failed, time.Since(start).Seconds())
	}
	if failed > 0 {
		return withCode(exitDiffers, fmt.Errorf("%d assertions failed", failed))
	}
	return nil
}

// labTestSpec finds what to test: all variants of a scenario, or the one that a lab was built as.
func labTestSpec(name string) (lab.TestSpec, error) {
	if name == "" {
		name = "fullnat"
	}
	if sc, err := lab.FindScenario(name); err == nil {
		return lab.TestSpec{Scenario: sc.Name, Variants: sc.Variants()}, nil
	}
	l, err := lab.Open(name)
	if err != nil {
		return lab.TestSpec{}, err
	}
	v := l.Scenario().Variants()[0]
	v.Name, v.Options = "as lab "+l.Name, l.Options
	v.Options.NoNaru = false
	return lab.TestSpec{Scenario: l.Scenario().Name, Variants: []lab.Variant{v}}, nil
}

func labDemoCommand() *cli.Command {
	return &cli.Command{
		Name:        "demo",
		Usage:       "show ten requests, and one of them packet by packet",
		ArgsUsage:   "[SCENARIO]",
		Description: "naru lab demo",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("name one SCENARIO")
			}
			if err := needRoot(); err != nil {
				return err
			}
			scenario := c.Args().First()
			if scenario == "" {
				scenario = "fullnat"
			}
			ctx, cancel := interruptible()
			defer cancel()
			return labError(ctx, lab.Demo(ctx, c.App.Writer, scenario, ""))
		},
	}
}
