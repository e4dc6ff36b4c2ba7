//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"naru/internal/backend"
)

func backendCommand() *cli.Command {
	return &cli.Command{
		Name:     "backend",
		Usage:    "set up, examine and help backends",
		Category: "Backends and host",
		Description: "naru backend setup web/b1\n" +
			"naru backend doctor web/b1",
		Subcommands: []*cli.Command{
			backendSetupCommand(),
			backendUndoCommand(),
			backendDoctorCommand(),
			backendDecapCommand(),
		},
	}
}

func backendSetupCommand() *cli.Command {
	return &cli.Command{
		Name:      "setup",
		Usage:     "print the commands that a backend needs in its mode, or run them there",
		ArgsUsage: "SERVICE/BACKEND",
		Category:  "Backends and host",
		Description: "naru backend setup web/b1\n" +
			"naru backend setup web/b1 --format networkd\n" +
			"naru backend setup web/b1 --apply          # on the backend, as root, with the same configuration\n\n" +
			"--apply may be repeated; what is as it should be is left alone.",
		Flags: append(planFlags(),
			&cli.StringFlag{Name: "format", EnvVars: []string{"NARU_FORMAT"}, Value: "sh",
				Usage: "print for `FORMAT`: " + strings.Join(backend.Formats(), ", ")},
		),
		Action: backendSetup,
	}
}

func backendUndoCommand() *cli.Command {
	return &cli.Command{
		Name:      "undo",
		Usage:     "print the commands that take a backend's set-up back, or run them there",
		ArgsUsage: "SERVICE/BACKEND",
		Category:  "Backends and host",
		Description: "naru backend undo web/b1\n" +
			"naru backend undo web/b1 --apply           # on the backend, as root\n\n" +
			"What another service of the configuration needs on the same machine stays, unless --all is given.",
		Flags: append(planFlags(),
			&cli.BoolFlag{Name: "all", Usage: "take away what other services need on the same machine too"}),
		Action: backendUndo,
	}
}

// planFlags are the flags of setup and undo.
func planFlags() []cli.Flag {
	return []cli.Flag{
		configFlag(),
		quietFlag(),
		&cli.BoolFlag{Name: "apply", EnvVars: []string{"NARU_APPLY"}, Usage: "do it, on this machine"},
		&cli.StringFlag{Name: "via", EnvVars: []string{"NARU_VIA"},
			Usage: "in mode nat, the director's `ADDRESS` on the backends' side"},
		&cli.StringFlag{Name: "interface", EnvVars: []string{"NARU_INTERFACE"},
			Usage: "the backend's `INTERFACE`; without it, the one with the backend's address"},
		&cli.IntFlag{Name: "mtu", EnvVars: []string{"NARU_MTU"},
			Usage: "the longest packet of `BYTES` that reaches the backend, outer header included"},
		choiceFlag("decap", "who takes outer headers off", "auto", "kernel", "naru"),
	}
}

// planned is what setup and undo work on.
func planned(c *cli.Context) (*backend.Plan, backend.PlanOptions, error) {
	cfg, t, err := targetOf(c)
	if err != nil {
		return nil, backend.PlanOptions{}, err
	}
	if t.Via, err = viaOf(c, t); err != nil {
		return nil, backend.PlanOptions{}, err
	}
	t.Interface = c.String("interface")
	here, mtu := backend.LocalInterface(t.Address)
	if t.Interface == "" {
		t.Interface = here
	}
	if c.Int("mtu") > 0 {
		mtu = c.Int("mtu")
	}
	opt := backend.PlanOptions{Decap: c.String("decap"), MTU: mtu}
	if !c.Bool("all") {
		opt.Others = targets(cfg)
	}
	p, err := backend.NewPlan(t, opt)
	return p, opt, err
}

func backendSetup(c *cli.Context) error {
	p, _, err := planned(c)
	if err != nil {
		return err
	}
	if c.Bool("apply") {
		done, err := p.Apply()
		return reportSteps(c, done, err)
	}
	text, err := p.Text(c.String("format"))
	if err != nil {
		return usagef("%w", err)
	}
	_, err = fmt.Fprint(c.App.Writer, text)
	return err
}

func backendUndo(c *cli.Context) error {
	p, opt, err := planned(c)
	if err != nil {
		return err
	}
	if c.Bool("apply") {
		done, err := p.Undo(opt)
		return reportSteps(c, done, err)
	}
	_, err = fmt.Fprint(c.App.Writer, p.UndoText(opt))
	return err
}

// reportSteps says what was done, one line a step. Notes are said in any case: they are things left to do.
func reportSteps(c *cli.Context, done []backend.Result, err error) error {
	for _, r := range done {
		word := "as it was"
		switch {
		case r.Todo:
			word = "to do"
		case r.Changed:
			word = "changed"
		}
		if !c.Bool("quiet") {
			fmt.Fprintf(c.App.ErrWriter, "%-9s  %s\n", word, r.What)
		}
		if r.Note != "" {
			fmt.Fprintf(c.App.ErrWriter, "           %s\n", r.Note)
		}
	}
	return backendError(err)
}

// backendError gives the errors of the backend's half their exit code and their fix.
func backendError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return withCode(exitPermission, fmt.Errorf("%w; run it as root, or with CAP_NET_ADMIN and CAP_NET_RAW", err))
	case errors.Is(err, backend.ErrUnsupported):
		return withCode(exitPermission, err)
	}
	return err
}
