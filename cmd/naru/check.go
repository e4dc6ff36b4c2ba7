package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"naru/internal/config"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "check a configuration, without touching this machine",
		ArgsUsage: "[FILE|-]",
		Category:  "Run",
		Description: "naru check naru.yaml\n" +
			"naru check --strict -o json - < naru.yaml\n\n" +
			"Every mistake is shown at once, with its line and the fix. The exit code is 3 if there is one.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "strict", EnvVars: []string{"NARU_STRICT"}, Usage: "take warnings for errors"},
			outputFlag("table", "json"),
			quietFlag(),
		},
		Action: check,
	}
}

func check(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("too many arguments: %q; it takes one FILE", c.Args().Get(1))
	}
	path := c.String("config")
	if c.Args().Present() {
		path = c.Args().First()
	}
	if path == "" {
		return usagef("missing argument FILE; give a file, or - for standard input")
	}
	src, err := readConfig(path, c.App.Reader)
	if err != nil {
		return err
	}
	r := newCheckResult(path, src, c.Bool("strict"))
	if c.String("output") == "json" {
		err = r.printJSON(c.App.Writer)
	} else {
		r.print(c.App.Writer, c.App.ErrWriter, src, c.Bool("quiet"))
	}
	if err == nil && !r.OK {
		err = withCode(exitConfig, nil)
	}
	return err
}

// checkResult is the JSON document of check.
type checkResult struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	File       string         `json:"file"`
	OK         bool           `json:"ok"`
	Errors     int            `json:"errors"`
	Warnings   int            `json:"warnings"`
	Services   int            `json:"services"`
	Backends   int            `json:"backends"`
	Problems   []checkProblem `json:"problems"`

	problems []config.Problem
}

type checkProblem struct {
	Severity string `json:"severity"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Path     string `json:"path"`
	Message  string `json:"message"`
	Fix      string `json:"fix"`
}

// newCheckResult checks a configuration; strict turns its warnings into errors.
func newCheckResult(path string, src []byte, strict bool) *checkResult {
	cfg, problems, err := parseConfig(path, src)
	if invalid := (*config.InvalidError)(nil); errors.As(err, &invalid) {
		problems = invalid.Problems
	}
	r := &checkResult{Kind: "Check", APIVersion: "naru/v1", File: path, Problems: []checkProblem{}, problems: problems}
	for i := range problems {
		p := &problems[i]
		p.Warning = p.Warning && !strict
		severity := "error"
		if p.Warning {
			severity = "warning"
		}
		r.Problems = append(r.Problems, checkProblem{severity, p.Line, p.Col, p.Path, p.Message, p.Fix})
	}
	r.Errors, r.Warnings = config.Count(problems)
	r.OK = r.Errors == 0
	if cfg != nil {
		r.Services = len(cfg.Services)
		for _, s := range cfg.Services {
			r.Backends += len(s.Backends)
		}
	}
	return r
}

func (r *checkResult) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *checkResult) print(stdout, stderr io.Writer, src []byte, quiet bool) {
	if !r.OK || !quiet {
		printProblems(stderr, r.problems, src)
	}
	if r.OK && !quiet {
		fmt.Fprintf(stdout, "%s: ok (%s, %s, %s)\n", r.File,
			count(r.Services, "service"), count(r.Backends, "backend"), count(r.Warnings, "warning"))
	}
}
