package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show services, backends and what they carry",
		ArgsUsage: "[SERVICE[/BACKEND]]",
		Category:  "Look",
		Description: "naru status\n" +
			"naru status web -o wide\n" +
			"naru status --brief --check            # for scripts: exit code 6 if a service has no backend\n" +
			"naru status web/b1 -o json\n" +
			"naru status --brief --wait 30s         # after a start: until every service is up\n\n" +
			"An asterisk marks a weight that differs from the configuration's.",
		Flags: append([]cli.Flag{
			outputFlag("table", "wide", "json", "yaml"),
			&cli.BoolFlag{Name: "brief", EnvVars: []string{"NARU_BRIEF"}, Usage: "print one line"},
			&cli.BoolFlag{Name: "check", EnvVars: []string{"NARU_CHECK"},
				Usage: "end with exit code 6 if what is shown is not up"},
			&cli.DurationFlag{Name: "wait", EnvVars: []string{"NARU_STATUS_WAIT"},
				Usage: "wait for `DURATION` at most until what is shown is up, also for a naru that does not answer yet; then as --check"},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, EnvVars: []string{"NARU_WATCH"},
				Usage: "print it again every second, until interrupted"},
			&cli.BoolFlag{Name: "rate", EnvVars: []string{"NARU_RATE"}, Usage: "show packets and bits a second"},
			&cli.BoolFlag{Name: "stats", EnvVars: []string{"NARU_STATS"}, Usage: "show totals since naru's start"},
			&cli.BoolFlag{Name: "no-headers", EnvVars: []string{"NARU_NO_HEADERS"}, Usage: "print tables without headings"},
		}, clientFlags()...),
		Action: statusAction,
	}
}

// watchEvery is how often --watch prints: naru's own figures are not younger.
const watchEvery = time.Second

func statusAction(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("too many arguments: %q; it takes one SERVICE or SERVICE/BACKEND", c.Args().Get(1))
	}
	if c.Bool("rate") && c.Bool("stats") {
		return usagef("--rate and --stats exclude each other")
	}
	if c.Duration("wait") < 0 {
		return usagef("--wait %v is in the past; write 30s", c.Duration("wait"))
	}
	if c.IsSet("wait") {
		awaitUp(c)
	}
	for {
		err := statusOnce(c)
		if err != nil || !c.Bool("watch") {
			return err
		}
		select {
		case <-c.Context.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

func statusOnce(c *cli.Context) error {
	var s admin.Status
	if err := ask(c, http.MethodGet, admin.Path("status"), nil, &s); err != nil {
		return err
	}
	bad, err := narrow(&s, c.Args().First())
	if err != nil {
		return err
	}
	format, out := c.String("output"), c.App.Writer
	if c.Bool("watch") && format != "json" && isTerminal(out) {
		fmt.Fprint(out, "\x1b[H\x1b[2J")
	}
	switch {
	case c.Bool("brief"):
		printBrief(out, &s, bad)
	case format == "json" && c.Bool("watch"):
		err = json.NewEncoder(out).Encode(s)
	case format == "json", format == "yaml":
		err = printDocument(out, format, s)
	default:
		err = printStatus(out, &s, statusView{wide: format == "wide", rate: c.Bool("rate"), stats: c.Bool("stats"),
			bare: c.Bool("no-headers")})
	}
	if err == nil && bad && (c.Bool("check") || c.IsSet("wait")) {
		return withCode(exitUnhealthy, nil)
	}
	return err
}

// narrow leaves what the argument names, and reports whether something of it is not up.
func narrow(s *admin.Status, name string) (bad bool, err error) {
	if name == "" {
		return s.Health != admin.OK, nil
	}
	service, backend, one := strings.Cut(name, "/")
	var known []string
	for _, svc := range s.Services {
		known = append(known, svc.Service)
	}
	s.Services = slices.DeleteFunc(s.Services, func(svc admin.Service) bool { return svc.Service != service })
	s.Ports = slices.DeleteFunc(s.Ports, func(p admin.Ports) bool {
		return p.Service != service || one && p.Backend != backend
	})
	if len(s.Services) == 0 {
		return false, usagef("there is no service %s; there are %s", service, strings.Join(known, ", "))
	}
	svc := &s.Services[0]
	if !one {
		return svc.State != admin.Up, nil
	}
	known = nil
	for _, b := range svc.Backends {
		known = append(known, service+"/"+b.Backend)
	}
	svc.Backends = slices.DeleteFunc(svc.Backends, func(b admin.Backend) bool { return b.Backend != backend })
	if len(svc.Backends) == 0 {
		return false, usagef("there is no backend %s; there are %s", name, strings.Join(known, ", "))
	}
	return svc.Backends[0].State != admin.Up, nil
}

// printBrief prints one line for scripts: words in front of "=" keep their meaning.
func printBrief(w io.Writer, s *admin.Status, bad bool) {
	word := "OK"
	if bad {
		word = "FAIL"
	}
	sum := admin.Summary{}
	active := uint64(0)
	for _, svc := range s.Services {
		sum.Services++
		active += svc.Active
		if svc.State == admin.Up {
			sum.ServicesUp++
		}
		for _, b := range svc.Backends {
			if b.Removed {
				continue
			}
			sum.Backends++
			if b.State == admin.Up {
				sum.BackendsUp++
			}
		}
	}
	ppm := uint64(0)
	if s.Packets.Received > 0 {
		ppm = uint64(float64(s.Packets.Dropped) / float64(s.Packets.Received) * 1e6)
	}
	fmt.Fprintf(w, "%s services=%d/%d backends=%d/%d connections=%d drops_ppm=%d\n", word, sum.ServicesUp, sum.Services,
		sum.BackendsUp, sum.Backends, active, ppm)
}
