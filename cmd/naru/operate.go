package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
)

// orderFlags are those of the commands that change a backend.
func orderFlags(more ...cli.Flag) []cli.Flag {
	return append(append(more, outputFlag("table", "json"), quietFlag()), clientFlags()...)
}

func drainCommand() *cli.Command {
	return &cli.Command{
		Name:      "drain",
		Usage:     "give a backend no new connections; its old ones end by themselves",
		ArgsUsage: "SERVICE/BACKEND",
		Category:  "Operate",
		Description: "naru drain web/b3\n" +
			"naru drain web/b3 --dry-run            # who would take its part\n" +
			"naru drain web/b3 --deadline 5m        # what is left then is ended\n" +
			"naru drain web/b3 --wait --deadline 5m # exit code 8 if something is left then\n\n" +
			"naru ready takes it back. It is not written to the file, and a reload keeps it.",
		Flags: orderFlags(
			&cli.DurationFlag{Name: "deadline", EnvVars: []string{"NARU_DEADLINE"},
				Usage: "end the connections that are left after `DURATION`",
				Action: func(_ *cli.Context, d time.Duration) error {
					if d <= 0 {
						return usagef("--deadline %v is in the past; write 5m", d)
					}
					return nil
				}},
			&cli.BoolFlag{Name: "wait", EnvVars: []string{"NARU_WAIT"}, Usage: "wait until it has no connections"},
			&cli.BoolFlag{Name: "dry-run", EnvVars: []string{"NARU_DRY_RUN"}, Usage: "say what would happen, and do nothing"},
		),
		Action: drainAction,
	}
}

func readyCommand() *cli.Command {
	return &cli.Command{
		Name:        "ready",
		Usage:       "take a backend back into service, with the weight of the configuration",
		ArgsUsage:   "SERVICE/BACKEND",
		Category:    "Operate",
		Description: "naru ready web/b3\n\nIt takes back drain, disable and weight.",
		Flags:       orderFlags(),
		Action:      func(c *cli.Context) error { return stateAction(c, admin.StateOrder{State: "ready"}) },
	}
}

func disableCommand() *cli.Command {
	return &cli.Command{
		Name:        "disable",
		Usage:       "give a backend no new connections and end its old ones",
		ArgsUsage:   "SERVICE/BACKEND",
		Category:    "Operate",
		Description: "naru disable web/b3\n\nnaru ready takes it back.",
		Flags:       orderFlags(),
		Action:      func(c *cli.Context) error { return stateAction(c, admin.StateOrder{State: "disable"}) },
	}
}

func weightCommand() *cli.Command {
	return &cli.Command{
		Name:        "weight",
		Usage:       "give a backend another weight",
		ArgsUsage:   "SERVICE/BACKEND N",
		Category:    "Operate",
		Description: "naru weight web/b3 50\n\nIt is not written to the file; naru ready takes it back.",
		Flags:       orderFlags(),
		Action:      weightAction,
	}
}

// backendArg returns the words of the argument SERVICE/BACKEND; of more arguments there must be exactly more.
func backendArg(c *cli.Context, more ...string) (service, backend string, err error) {
	want := append([]string{"SERVICE/BACKEND"}, more...)
	if c.NArg() < len(want) {
		return "", "", usagef("missing argument %s", want[c.NArg()])
	}
	if c.NArg() > len(want) {
		return "", "", usagef("too many arguments: %q; it takes %s", c.Args().Get(len(want)), strings.Join(want, " "))
	}
	service, backend, ok := strings.Cut(c.Args().First(), "/")
	if !ok || service == "" || backend == "" {
		return "", "", usagef("%q does not name a backend; write SERVICE/BACKEND", c.Args().First())
	}
	return service, backend, nil
}

func stateAction(c *cli.Context, order admin.StateOrder) error {
	service, backend, err := backendArg(c)
	if err != nil {
		return err
	}
	var now admin.BackendDocument
	if err := ask(c, http.MethodPost, admin.Path("backends", service, backend, "state"), order, &now); err != nil {
		return err
	}
	return tellBackend(c, &now, "")
}

func weightAction(c *cli.Context) error {
	service, backend, err := backendArg(c, "N")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(c.Args().Get(1))
	if err != nil || n < 0 || n > 65535 {
		return usagef("%q is not a weight; write a whole number from 0 to 65535", c.Args().Get(1))
	}
	var now admin.BackendDocument
	path := admin.Path("backends", service, backend, "weight")
	if err := ask(c, http.MethodPut, path, admin.WeightOrder{Weight: &n}, &now); err != nil {
		return err
	}
	return tellBackend(c, &now, "")
}

// tellBackend prints how a backend is now.
func tellBackend(c *cli.Context, b *admin.BackendDocument, what string) error {
	if c.String("output") == "json" {
		return printDocument(c.App.Writer, "json", b)
	}
	if c.Bool("quiet") {
		return nil
	}
	name := b.Service + "/" + b.Backend.Backend
	if what == "" {
		what = fmt.Sprintf("is %s, weight %d, share %.1f%%, %s", b.State, b.Weight, 100*b.Share,
			count(int(b.Active), "connection"))
		if n := note(&b.Backend); n != "" {
			what += " (" + n + ")"
		}
	}
	fmt.Fprintf(c.App.Writer, "%s %s\n", name, what)
	if isTerminal(c.App.Writer) {
		fmt.Fprintf(c.App.ErrWriter, "next: naru status %s\n", b.Service)
	}
	return nil
}

// waitEvery is how often drain --wait looks.
const waitEvery = 200 * time.Millisecond

func drainAction(c *cli.Context) error {
	deadline := c.Duration("deadline")
	order := admin.StateOrder{State: "drain", Deadline: deadline.Seconds()}
	switch {
	case c.Bool("dry-run") && (c.Bool("wait") || c.String("output") == "json"):
		return usagef("--dry-run is words only; leave --wait and -o json out")
	case c.Bool("dry-run"):
		return wouldDrain(c, order)
	case !c.Bool("wait"):
		return stateAction(c, order)
	}
	service, backend, err := backendArg(c)
	if err != nil {
		return err
	}
	var now admin.BackendDocument
	if err := ask(c, http.MethodPost, admin.Path("backends", service, backend, "state"), order, &now); err != nil {
		return err
	}
	began, had := time.Now(), now.Active
	for now.Active > 0 {
		if now.State != "draining" && now.State != "disabled" {
			return fmt.Errorf("%s/%s is %s: somebody took it back", service, backend, now.State)
		}
		left := now.Active
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(waitEvery):
		}
		if err := lookAt(c, service, backend, &now); err != nil {
			return err
		}
		if now.State == "disabled" { // at its deadline, which ends what was left
			return withCode(exitDeadline, fmt.Errorf("%s/%s still had %s at the deadline; they are ended now", service, backend,
				count(int(left), "connection")))
		}
	}
	return tellBackend(c, &now, fmt.Sprintf("drained in %s: %s ended by themselves", age(time.Since(began).Seconds()),
		count(int(had), "connection")))
}

// lookAt reads how a backend is now.
func lookAt(c *cli.Context, service, backend string, now *admin.BackendDocument) error {
	var s admin.ServiceDocument
	if err := ask(c, http.MethodGet, admin.Path("services", service), nil, &s); err != nil {
		return err
	}
	for _, b := range s.Backends {
		if b.Backend == backend {
			now.Backend = b
			return nil
		}
	}
	now.Active = 0 // it was removed, and has no connections any more
	return nil
}
