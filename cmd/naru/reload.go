package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/config"
)

func reloadCommand() *cli.Command {
	return &cli.Command{
		Name:     "reload",
		Usage:    "make the running naru read its configuration again",
		Category: "Operate",
		Description: "naru reload\n" +
			"naru reload --reset                    # drain, disable and weight are taken back\n\n" +
			"A configuration with a mistake is refused, with exit code 3, and the old one goes on. Connections stay.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "reset", EnvVars: []string{"NARU_RESET"}, Usage: "take back what operators ordered"},
			outputFlag("table", "json"), quietFlag(),
		}, clientFlags()...),
		Action: reloadAction,
	}
}

func reloadAction(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q; the running naru knows its file", c.Args().First())
	}
	var done admin.ConfigResult
	err := ask(c, http.MethodPost, "/v1/config:apply", admin.ConfigText{Reset: c.Bool("reset")}, &done)
	if p := (*admin.Problem)(nil); errors.As(err, &p) && p.Status == http.StatusUnprocessableEntity {
		printMistakes(c, p.Errors)
		return withCode(exitConfig, errors.New("refused, the old configuration goes on: "+p.Error()))
	} else if err != nil {
		if p != nil {
			printMistakes(c, p.Errors)
		}
		return err
	}
	printMistakes(c, done.Warnings)
	if c.String("output") == "json" {
		return printDocument(c.App.Writer, "json", done)
	}
	if c.Bool("quiet") {
		return nil
	}
	what := "nothing changed"
	if len(done.Changes) > 0 {
		what = strings.Join(done.Changes, "   ")
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: rev %d   %s\n", done.File, done.Revision, what)
	return err
}

// printMistakes prints the mistakes that a naru found, a line each.
func printMistakes(c *cli.Context, all []admin.Mistake) {
	for _, m := range all {
		fmt.Fprintln(c.App.ErrWriter, mistakeText(m))
	}
}

// mistakeText puts a mistake into one line, as naru check does.
func mistakeText(m admin.Mistake) string {
	p := config.Problem{Position: config.Position{File: m.File, Line: m.Line, Col: m.Column}, Path: m.Path,
		Message: m.Message, Fix: m.Fix, Warning: m.Warning}
	return p.String()
}
