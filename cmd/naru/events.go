package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:     "events",
		Usage:    "show what changed: health, orders, reloads",
		Category: "Look",
		Description: "naru events\n" +
			"naru events -f                         # and go on with those to come, until interrupted\n" +
			"naru events --since 10m -o jsonl",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, EnvVars: []string{"NARU_FOLLOW"},
				Usage: "go on with the events to come"},
			&cli.DurationFlag{Name: "since", EnvVars: []string{"NARU_SINCE"}, Usage: "show those of the last `DURATION` only"},
			outputFlag("table", "jsonl"),
		}, clientFlags()...),
		Action: eventsAction,
	}
}

func eventsAction(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q; it takes none", c.Args().First())
	}
	ctx, path := c.Context, admin.Path("events")
	if c.Bool("follow") {
		path += "?follow=true"
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Duration("timeout"))
		defer cancel()
	}
	var from time.Time
	if d := c.Duration("since"); d > 0 {
		from = time.Now().Add(-d)
	}
	err := admin.NewClient(c.String("socket")).Follow(ctx, path, func(line []byte) error {
		var e admin.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("an event of naru: %w", err)
		}
		if e.Time.Before(from) {
			return nil
		}
		if c.String("output") == "jsonl" {
			_, err := fmt.Fprintf(c.App.Writer, "%s\n", line)
			return err
		}
		by := e.By
		if by == "" {
			by = "-"
		}
		_, err := fmt.Fprintf(c.App.Writer, "%s  %-8s  %-8s  %s\n", e.Time.Local().Format("2006-01-02T15:04:05.000"), e.Kind, by,
			e.Text)
		return err
	})
	if c.Context.Err() != nil && errors.Is(err, c.Context.Err()) {
		return nil
	}
	return daemonError(err)
}
