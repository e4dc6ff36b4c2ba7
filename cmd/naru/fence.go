//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"naru/internal/kernel"
)

func fenceCommand() *cli.Command {
	return &cli.Command{
		Name:     "fence",
		Usage:    "show or clear the nftables table that keeps the kernel off what is naru's",
		Category: "Run",
		Description: "naru fence show\n" +
			"naru fence clear\n\n" +
			"A naru that was killed leaves its fence up, so that the kernel stays quiet until the next one adopts it.",
		Subcommands: []*cli.Command{
			{
				Name:        "show",
				Usage:       "print what the fence drops and how often it did",
				Description: "naru fence show\nnaru fence show -o json",
				Category:    "Run",
				Flags:       []cli.Flag{outputFlag("table", "json")},
				Action:      fenceShow,
			},
			{
				Name:        "clear",
				Usage:       "take a fence away that no running naru holds",
				Description: "naru fence clear",
				Category:    "Run",
				Flags:       []cli.Flag{quietFlag()},
				Action:      fenceClear,
			},
		},
	}
}

// fenceDocument is the JSON document of fence show.
type fenceDocument struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	kernel.FenceState
}

func fenceShow(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q; it takes none", c.Args().First())
	}
	s, err := kernel.ShowFence()
	if err != nil {
		return kernelError(err)
	}
	if c.String("output") == "json" {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		return e.Encode(fenceDocument{"Fence", "naru/v1", s})
	}
	return printFence(c.App.Writer, s)
}

func printFence(w io.Writer, s kernel.FenceState) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "FENCE\t%s\n", fenceWord(s))
	if s.Up {
		fmt.Fprintf(tw, "INTERFACES\t%s\n", dashIfEmpty(strings.Join(s.Interfaces, " ")))
		fmt.Fprintf(tw, "VIPS\t%s\n", addressList(s.VIPs))
		fmt.Fprintf(tw, "POOL\t%s\n", addressList(s.Pool))
		for _, p := range s.Outer {
			fmt.Fprintf(tw, "OUTER\t%s\n", p)
		}
		for _, p := range s.Ports {
			fmt.Fprintf(tw, "PORTS\t%s on %s\n", p.What, addressList(p.Addrs))
		}
		fmt.Fprintf(tw, "\nCOUNTER\tPACKETS\tBYTES\n")
		for _, n := range s.Counters {
			fmt.Fprintf(tw, "%s\t%d\t%d\n", n.Name, n.Packets, n.Bytes)
		}
	}
	return tw.Flush()
}

func fenceWord(s kernel.FenceState) string {
	state := "down"
	if s.Up {
		state = "up"
	}
	switch {
	case s.Held && s.PID != 0:
		return fmt.Sprintf("%s, held by naru (pid %d)", state, s.PID)
	case s.Held:
		return state + ", held by a naru in another PID namespace"
	case s.Up:
		return state + ", left behind; naru run adopts it, naru fence clear removes it"
	}
	return state
}

func addressList(addrs []netip.Addr) string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return dashIfEmpty(strings.Join(list, " "))
}

func dashIfEmpty(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func fenceClear(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q; it takes none", c.Args().First())
	}
	existed, err := kernel.ClearFence()
	if err != nil {
		return kernelError(err)
	}
	switch {
	case c.Bool("quiet"):
	case existed:
		fmt.Fprintln(c.App.ErrWriter, "the fence is down")
	default:
		fmt.Fprintln(c.App.ErrWriter, "there was no fence")
	}
	return nil
}

// kernelError gives errors of the kernel side their exit code and their fix.
func kernelError(err error) error {
	switch owned := (*kernel.OwnedError)(nil); {
	case errors.As(err, &owned) && owned.PID != 0:
		return fmt.Errorf("another naru runs in this network namespace (pid %d); stop it first: kill %[1]d", owned.PID)
	case errors.As(err, &owned):
		return errors.New("another naru runs in this network namespace, in a PID namespace that is not visible from here; " +
			"stop it first")
	case errors.Is(err, os.ErrPermission):
		return withCode(exitPermission, fmt.Errorf("%w; run it as root, or with CAP_NET_ADMIN and CAP_NET_RAW", err))
	case errors.Is(err, kernel.ErrUnsupported):
		return withCode(exitPermission, fmt.Errorf("%w; load nf_tables and nf_tables_netdev, or set fence: none "+
			"(the kernel then answers beside naru: it resets connections that it does not know)", err))
	}
	return err
}
