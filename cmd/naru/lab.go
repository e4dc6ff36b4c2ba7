//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"naru/lab"
)

const labExample = `naru lab up fullnat
naru lab exec client -- curl -s http://www.naru.test/
naru lab test
naru lab down

A lab is a network of its own on this machine, made of network namespaces: a client, a router,
naru and its backends. Nothing outside of it changes. It needs root.`

// labCommand returns naru lab.
func labCommand() *cli.Command {
	cmd := &cli.Command{
		Name:        "lab",
		Usage:       "build, use and test networks to try naru in",
		Category:    "Lab",
		Description: labExample,
		Subcommands: []*cli.Command{
			labListCommand(), labUpCommand(), labDownCommand(), labExecCommand(), labGetCommand(), labTestCommand(),
			labGraphCommand(), labExplainCommand(),
			labDemoCommand(), labCleanCommand(), labNodeServeCommand(), labNodeGetCommand(),
		},
	}
	for _, sub := range cmd.Subcommands {
		sub.Category = cmd.Category
	}
	return cmd
}

// labNameFlag chooses one of several labs.
func labNameFlag() *cli.StringFlag {
	return &cli.StringFlag{
		Name: "name", Usage: "the lab's `NAME`; without it the only one there is", EnvVars: []string{"NARU_LAB"},
	}
}

// needRoot refuses to begin what would fail half way.
func needRoot() error {
	if os.Geteuid() != 0 {
		return withCode(exitPermission, errors.New("network namespaces need root; try sudo"))
	}
	return nil
}

// interruptible returns a context that Ctrl-C and SIGTERM end.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// labError gives an error of package lab its exit code.
func labError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return withCode(exitInterrupted, errors.New("interrupted; what was made is removed again"))
	case errors.Is(err, os.ErrPermission):
		return withCode(exitPermission, fmt.Errorf("%w; a lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN", plain(err)))
	}
	return withCode(exitFailed, plain(err))
}

// plain takes the package's name off an error: the command's stands in front of it.
func plain(err error) error { return errors.New(strings.TrimPrefix(err.Error(), "lab: ")) }

func labListCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list the scenarios and the labs that are up",
		Description: "naru lab list -o json",
		Flags:       []cli.Flag{outputFlag("table", "json")},
		Action: func(c *cli.Context) error {
			states, err := lab.List()
			if err != nil {
				return labError(c.Context, err)
			}
			if c.String("output") == "json" {
				return writeLabListJSON(c, states)
			}
			w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "SCENARIO\tSUMMARY")
			for _, s := range lab.Scenarios() {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, s.Summary)
			}
			if len(states) > 0 {
				fmt.Fprintln(w, "\nLAB\tSCENARIO\tSTATE\tNODES\tAGE")
			}
			for _, s := range states {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", s.Name, s.Scenario, labState(s), len(s.Nodes),
					time.Since(s.Created).Round(time.Second))
			}
			return w.Flush()
		},
	}
}

// labState says in a word what a lab is.
func labState(s lab.State) string {
	switch {
	case s.Private:
		return "private"
	case s.Up:
		return "up"
	}
	return "unfinished"
}

func writeLabListJSON(c *cli.Context, states []lab.State) error {
	type scenario struct {
		Name    string `json:"name"`
		Summary string `json:"summary"`
	}
	list := struct {
		Kind       string      `json:"kind"`
		APIVersion string      `json:"apiVersion"`
		Scenarios  []scenario  `json:"scenarios"`
		Labs       []lab.State `json:"labs"`
	}{Kind: "LabList", APIVersion: "naru/v1", Labs: states}
	if states == nil {
		list.Labs = []lab.State{}
	}
	for _, s := range lab.Scenarios() {
		list.Scenarios = append(list.Scenarios, scenario{s.Name, s.Summary})
	}
	e := json.NewEncoder(c.App.Writer)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

func labUpCommand() *cli.Command {
	return &cli.Command{
		Name:        "up",
		Usage:       "build a scenario and run naru in it",
		ArgsUsage:   "SCENARIO",
		Description: "naru lab up fullnat\nnaru lab up fullnat --name mine --no-naru",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "call the lab `NAME` instead of after its scenario"},
			&cli.BoolFlag{Name: "no-naru", Usage: "build the network and the servers, start naru yourself"},
			&cli.StringFlag{Name: "source-pool", Value: "held",
				Usage: "`held`: the local address is the director's own; free: nobody's"},
			&cli.StringFlag{Name: "offload", Value: "on", Usage: "`on`, or off: tso and gso off on the director's interfaces"},
			&cli.IntFlag{Name: "path-mtu",
				Usage: "the cable in the middle of the path to the backends carries `BYTES` (l3dsr-*, remote)"},
			&cli.StringFlag{Name: "legs", Value: "veth", Usage: "`veth` or macvlan: the director's interfaces"},
		},
		Action: labUp,
	}
}

// labOptions reads the flags of lab up.
func labOptions(c *cli.Context) (lab.Options, error) {
	var o lab.Options
	for _, f := range []struct {
		name, normal, other string
		set                 *bool
	}{
		{"source-pool", "held", "free", &o.FreePool},
		{"offload", "on", "off", &o.NoSegment},
		{"legs", "veth", "macvlan", &o.MacvlanLegs},
	} {
		switch c.String(f.name) {
		case f.normal:
		case f.other:
			*f.set = true
		default:
			return o, usagef("--%s must be %s or %s, not %q", f.name, f.normal, f.other, c.String(f.name))
		}
	}
	if o.PathMTU = c.Int("path-mtu"); o.PathMTU != 0 && (o.PathMTU < 1280 || o.PathMTU > 1500) {
		return o, usagef("--path-mtu must be 1280 to 1500, not %d", o.PathMTU)
	}
	o.NoNaru = c.Bool("no-naru")
	return o, nil
}

func labUp(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("name one SCENARIO; naru lab list shows them")
	}
	o, err := labOptions(c)
	if err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	ctx, cancel := interruptible()
	defer cancel()
	start := time.Now()
	l, err := lab.Up(ctx, lab.Spec{Scenario: c.Args().First(), Name: c.String("name"), Options: o})
	if err != nil {
		return labError(ctx, err)
	}
	fmt.Fprintf(c.App.Writer, "lab %q up in %.1f s (namespaces naru-%s-*)\n\n%s\n\n", l.Name,
		time.Since(start).Seconds(), l.Name, l.Scenario().Drawing)
	tellLab(c.App.Writer, l)
	return nil
}

// tellLab prints what can be done with a lab that is up.
func tellLab(w io.Writer, l *lab.Lab) {
	run, director := lab.Called()+" lab exec", l.Scenario().Director
	if l.Name != l.Scenario().Name {
		run += " --name " + l.Name
	}
	if l.Options.NoNaru {
		fmt.Fprintf(w, "start  %s %s -- naru run -c %s    (or a file of your own)\n", run, director, l.ConfigFile())
	}
	fmt.Fprintf(w, "try    %s client -- curl -s http://www.naru.test/\n", run)
	fmt.Fprintf(w, "look   %s %s -- naru status    (trace, explain, drops, drain, ...)\n", run, director)
	if !l.Options.NoNaru {
		fmt.Fprintf(w, "naru   configuration %s, log %s\n", l.ConfigFile(), l.LogFile(director))
	}
	fmt.Fprintf(w, "end    %s lab down %s\n", lab.Called(), l.Name)
}

func labDownCommand() *cli.Command {
	return &cli.Command{
		Name:        "down",
		Usage:       "remove a lab",
		ArgsUsage:   "[NAME]",
		Description: "naru lab down fullnat",
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("name one lab")
			}
			if err := needRoot(); err != nil {
				return err
			}
			name := c.Args().First()
			if name == "" {
				l, err := lab.Open("")
				if err != nil {
					return labError(c.Context, err)
				}
				name = l.Name
			}
			if err := lab.Remove(name); err != nil {
				return labError(c.Context, err)
			}
			fmt.Fprintf(c.App.Writer, "lab %q removed\n", name)
			return nil
		},
	}
}

func labCleanCommand() *cli.Command {
	return &cli.Command{
		Name:        "clean",
		Usage:       "remove all labs, also what a crash has left",
		ArgsUsage:   "[NAME...]",
		Description: "naru lab clean --yes    # labs that a running command works in are left alone",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}},
		Action:      labClean,
	}
}

func labClean(c *cli.Context) error {
	if err := needRoot(); err != nil {
		return err
	}
	plan, err := lab.Cleanable(c.Args().Slice()...)
	if err != nil {
		return labError(c.Context, err)
	}
	if len(plan) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing to clean")
		return nil
	}
	var names []string
	for _, s := range plan {
		names = append(names, s.Name)
	}
	if !c.Bool("yes") && !confirm(c, fmt.Sprintf("remove %s?", strings.Join(names, ", "))) {
		return usagef("nothing removed; say y, or give --yes")
	}
	removed, err := lab.Clean(names...)
	for _, name := range removed {
		fmt.Fprintf(c.App.Writer, "lab %q removed\n", name)
	}
	return labError(c.Context, err)
}

// confirm asks on the terminal. Without a terminal the answer is no.
func confirm(c *cli.Context, question string) bool {
	in, ok := c.App.Reader.(*os.File)
	if !ok {
		return false
	}
	if _, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err != nil {
		return false
	}
	fmt.Fprintf(c.App.ErrWriter, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(in, &answer); err != nil {
		return false
	}
	return answer == "y" || answer == "yes"
}
