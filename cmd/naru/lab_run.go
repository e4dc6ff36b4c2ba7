//go:build linux

package main

import (
	"context"
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
		Description: "naru lab test\nnaru lab test l2dsr\n\n" +
			"Every variant of every scenario, or of one, is built as a lab of its own, tested and removed. With the\n" +
			"NAME of a lab that is up, its variant alone. Exit code 7 when an assertion failed.",
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
	specs, err := labTestSpecs(c.Args().First())
	if err != nil {
		return labError(c.Context, err)
	}
	ctx, cancel := interruptible()
	defer cancel()
	t := labTester{c: c, asJSON: c.String("output") == "json"}
	start := time.Now()
	for _, spec := range specs {
		if err := t.run(ctx, spec); err != nil {
			return labError(ctx, err)
		}
	}
	if !t.asJSON {
		if len(specs) > 1 {
			fmt.Fprintln(c.App.Writer)
			lab.WriteThrough(c.App.Writer, t.counts)
		}
		fmt.Fprintf(c.App.Writer, "\n%d ok, %d failed in %.1f s\n", t.passed, t.failed, time.Since(start).Seconds())
	}
	if t.failed > 0 {
		return withCode(exitDiffers, fmt.Errorf("%d assertions failed", t.failed))
	}
	return nil
}

// labTester runs tests of scenarios and prints their results.
type labTester struct {
	c              *cli.Context
	asJSON         bool
	passed, failed int
	counts         []lab.Through // of the first variant of each scenario
}

func (t *labTester) run(ctx context.Context, spec lab.TestSpec) error {
	spec.Report = func(r lab.Result) {
		if r.OK {
			t.passed++
		}
		if t.asJSON {
			_ = json.NewEncoder(t.c.App.Writer).Encode(r) // a broken pipe ends us anyway
			return
		}
		fmt.Fprintln(t.c.App.Writer, r)
	}
	measured := false
	spec.Measured = func(count lab.Through) {
		if !measured {
			t.counts = append(t.counts, count)
		}
		measured = true
	}
	spec.Starting = func(v lab.Variant) {
		if !t.asJSON {
			fmt.Fprintf(t.c.App.Writer, "\n%s: %s\n", spec.Scenario, v.Name)
		}
	}
	failed, err := lab.Test(ctx, spec)
	t.failed += failed
	return err
}

// labTestSpecs finds what to test: every scenario, all variants of one, or the one that a lab was built as.
func labTestSpecs(name string) ([]lab.TestSpec, error) {
	var specs []lab.TestSpec
	for _, sc := range lab.Scenarios() {
		if name == "" || name == sc.Name {
			specs = append(specs, lab.TestSpec{Scenario: sc.Name, Variants: sc.Variants()})
		}
	}
	if len(specs) > 0 {
		return specs, nil
	}
	l, err := lab.Open(name)
	if err != nil {
		return nil, err
	}
	v := l.Scenario().Variants()[0]
	v.Name, v.Options = "as lab "+l.Name, l.Options
	v.Options.NoNaru = false
	return []lab.TestSpec{{Scenario: l.Scenario().Name, Variants: []lab.Variant{v}}}, nil
}
