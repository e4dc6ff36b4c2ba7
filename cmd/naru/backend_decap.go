//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"naru/internal/backend"
)

func backendDecapCommand() *cli.Command {
	return &cli.Command{
		Name:     "decap",
		Usage:    "take outer headers off, on a backend whose kernel cannot",
		Category: "Backends and host",
		Description: "naru backend decap --mode ipip --vip 203.0.113.10\n" +
			"naru backend decap --mode gue --port 6080 --vip 203.0.113.10 --from 10.0.0.2/32\n\n" +
			"Runs in the foreground until SIGTERM or SIGINT and then prints what it counted. Without --vip it takes packets\n" +
			"for the addresses on lo. The VIP itself comes by naru backend setup.",
		Flags: []cli.Flag{
			quietFlag(),
			&cli.StringFlag{Name: "mode", EnvVars: []string{"NARU_MODE"}, Usage: "the encapsulation, `ipip|gue`"},
			&cli.UintFlag{Name: "port", EnvVars: []string{"NARU_PORT"}, Value: 6080, Usage: "with gue, the UDP `PORT`"},
			&cli.StringFlag{Name: "device", EnvVars: []string{"NARU_DEVICE"}, Usage: "call the TUN device `NAME`"},
			&cli.StringSliceFlag{Name: "local", EnvVars: []string{"NARU_LOCAL"},
				Usage: "take packets to `ADDRESS` of this machine only; may be repeated"},
			&cli.StringSliceFlag{Name: "vip", EnvVars: []string{"NARU_VIP"},
				Usage: "take packets for `ADDRESS` only; may be repeated"},
			&cli.StringSliceFlag{Name: "from", EnvVars: []string{"NARU_FROM"},
				Usage: "take packets from directors in `PREFIX` only; may be repeated"},
		},
		Action: backendDecap,
	}
}

func backendDecap(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q; it takes none", c.Args().First())
	}
	opt, err := decapOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	d, err := backend.OpenDecap(opt)
	if err != nil {
		return backendError(err)
	}
	if !c.Bool("quiet") {
		fmt.Fprintf(c.App.ErrWriter, "decapsulating %s into %s\n", opt.Mode, d.Device())
	}
	err = d.Run(ctx)
	if !c.Bool("quiet") {
		printDecapCounters(c.App.ErrWriter, d.Counters())
	}
	return backendError(err)
}

func decapOptions(c *cli.Context) (opt backend.DecapOptions, err error) {
	opt.Mode, opt.Device = backend.Way(c.String("mode")), c.String("device")
	if opt.Mode != backend.IPIP && opt.Mode != backend.GUE {
		return opt, usagef("--mode %q is not known; use ipip or gue", c.String("mode"))
	}
	if c.Uint("port") == 0 || c.Uint("port") > 65535 {
		return opt, usagef("--port %d is no port", c.Uint("port"))
	}
	opt.Port = uint16(c.Uint("port"))
	if opt.Local, err = addresses(c, "local"); err != nil {
		return opt, err
	}
	if opt.VIPs, err = addresses(c, "vip"); err != nil {
		return opt, err
	}
	for _, text := range c.StringSlice("from") {
		p, err := netip.ParsePrefix(text)
		if a, aerr := netip.ParseAddr(text); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return opt, usagef("--from %q is no prefix", text)
		}
		opt.From = append(opt.From, p.Masked())
	}
	return opt, nil
}

func addresses(c *cli.Context, flag string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range c.StringSlice(flag) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return nil, usagef("--%s %q is no address", flag, text)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}

func printDecapCounters(w io.Writer, counters []backend.Counter) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "COUNTER\tPACKETS")
	for _, n := range counters {
		fmt.Fprintf(tw, "%s\t%d\n", n.Name, n.Packets)
	}
	tw.Flush()
}
