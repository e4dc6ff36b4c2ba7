//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/backend"
	"naru/internal/kernel"
)

func backendDoctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "probe a backend along the real data path and say what is wrong",
		ArgsUsage: "SERVICE/BACKEND",
		Category:  "Backends and host",
		Description: "naru backend doctor web/b1\n" +
			"naru backend doctor web/b1 -o json\n\n" +
			"Run it on the director, or on another machine of its segment. It sends a few packets of its own and leaves nothing\n" +
			"behind; the service may run meanwhile. The exit code is 6 if something is wrong.",
		Flags: []cli.Flag{
			configFlag(),
			outputFlag("table", "json"),
			&cli.DurationFlag{Name: "timeout", EnvVars: []string{"NARU_TIMEOUT"}, Value: time.Second,
				Usage: "wait `DURATION` for each answer"},
			&cli.UintFlag{Name: "port", EnvVars: []string{"NARU_PORT"},
				Usage: "ask for `PORT` of the service; without it, its first one"},
			&cli.StringFlag{Name: "interface", EnvVars: []string{"NARU_INTERFACE"},
				Usage: "ask by `INTERFACE`; without it, the one that leads to the backend"},
		},
		Action: backendDoctor,
	}
}

// doctorDocument is the JSON document of backend doctor.
type doctorDocument struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	backend.Report
}

func backendDoctor(c *cli.Context) error {
	cfg, t, err := targetOf(c)
	if err != nil {
		return err
	}
	if c.Uint("port") > 65535 {
		return usagef("--port %d is no port", c.Uint("port"))
	}
	if p := uint16(c.Uint("port")); p != 0 {
		if !serves(cfg, t.Service, p) {
			return usagef("--port %d is no port of service %s", p, t.Service)
		}
		t.Port = p
	}
	if c.Duration("timeout") <= 0 {
		return usagef("--timeout %s is no time to wait", c.Duration("timeout"))
	}
	_, director := kernel.Holder()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	r, err := backend.Doctor(ctx, backend.DoctorOptions{Target: t, Others: targets(cfg), Timeout: c.Duration("timeout"),
		Interface: c.String("interface"), Director: director})
	if ctx.Err() != nil {
		return withCode(exitInterrupted, nil)
	}
	if err != nil {
		return backendError(err)
	}
	if c.String("output") == "json" {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		err = e.Encode(doctorDocument{"BackendDoctor", "naru/v1", r})
	} else {
		printReport(c.App.Writer, r)
	}
	if err == nil && r.Failed() > 0 {
		return withCode(exitUnhealthy, nil)
	}
	return err
}

// printReport prints one line a check; a failed one goes on with its cause and its fix.
func printReport(w io.Writer, r backend.Report) {
	passed := 0
	for _, k := range r.Checks {
		word := map[backend.Status]string{backend.OK: "ok", backend.Fail: "FAIL", backend.Skip: "skip"}[k.Status]
		if k.Status == backend.OK {
			passed++
		}
		fmt.Fprintf(w, "%-5s %-9s %s\n", word, k.Name, k.Text)
		if k.Cause != "" {
			fmt.Fprintf(w, "      %-9s %s\n", "cause", k.Cause)
		}
		if k.Effect != "" {
			fmt.Fprintf(w, "      %-9s %s\n", "effect", k.Effect)
		}
		if k.Fix != "" {
			fmt.Fprintf(w, "      %-9s %s\n", "fix", k.Fix)
		}
	}
	fmt.Fprintf(w, "%d failed, %d passed\n", r.Failed(), passed)
}
