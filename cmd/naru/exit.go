package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"naru/internal/config"
)

// The exit codes: scripts depend on them, so they keep their meaning.
const (
	exitFailed      = 1   // the operation failed
	exitUsage       = 2   // wrong usage
	exitConfig      = 3   // the configuration is invalid
	exitNoDaemon    = 4   // no running naru answers
	exitPermission  = 5   // not permitted, or the kernel lacks a feature
	exitUnhealthy   = 6   // unhealthy, or findings
	exitDiffers     = 7   // the result is not the expected one
	exitDeadline    = 8   // the deadline has passed
	exitInterrupted = 130 // by a signal
)

// exitError is an error with the exit code that it means. Other errors mean exitFailed.
type exitError struct {
	code int
	err  error // nil: everything is said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// withCode returns err with an exit code; a nil err ends the program without a word.
func withCode(code int, err error) error { return &exitError{code, err} }

// usagef returns an error in how a command was called.
func usagef(format string, args ...any) error {
	return withCode(exitUsage, fmt.Errorf(format, args...))
}

// commandError is an error with the command that it happened in.
type commandError struct {
	command string // as "naru config example"
	err     error
}

func (e *commandError) Error() string { return e.command + ": " + e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

// located returns an action whose errors name their command.
func located(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := action(c); err != nil {
			return &commandError{commandName(c), err}
		}
		return nil
	}
}

// commandName returns the command of a context with those above it, as "naru config example".
func commandName(c *cli.Context) string {
	if c.Command == nil || c.Command.HelpName == "" {
		return c.App.Name
	}
	return c.Command.HelpName
}

// report prints an error and returns the exit code. It takes one line, and a second one for wrong usage.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	code, command := exitFailed, "naru"
	if e := (*commandError)(nil); errors.As(err, &e) {
		command, err = e.command, e.err
	}
	if e := (*exitError)(nil); errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	fmt.Fprintf(stderr, "%s: %s\n", command, strings.ReplaceAll(err.Error(), "\n", " "))
	if code == exitUsage {
		fmt.Fprintf(stderr, "see %s --help\n", command)
	}
	return code
}

// noSuchCommand is the action of what only has commands below it.
func noSuchCommand(c *cli.Context) error {
	below := c.Command.Subcommands
	var names []string
	for _, cmd := range below {
		if !cmd.Hidden {
			names = append(names, cmd.Name)
		}
	}
	if !c.Args().Present() {
		return usagef("missing argument COMMAND; one of %s", strings.Join(names, ", "))
	}
	word := c.Args().First()
	if s := config.Suggest(word, names); s != "" {
		return usagef("unknown command %q; did you mean %q?", word, s)
	}
	return usagef("unknown command %q; there are %s", word, strings.Join(names, ", "))
}

// flagError says in our words what the library says about flags.
func flagError(c *cli.Context, err error, _ bool) error {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		msg = "unknown flag " + dashed(name)
		if s := config.Suggest(name, flagNames(c.Command.Flags)); s != "" && len(name) > 1 {
			msg += "; did you mean " + dashed(s) + "?"
		}
	} else if name, ok := strings.CutPrefix(msg, "flag needs an argument: -"); ok {
		msg = "the flag " + dashed(name) + " needs a value"
	} else if value, rest, ok := strings.Cut(msg, " for flag -"); ok {
		name, _, _ := strings.Cut(rest, ":")
		msg = dashed(name) + strings.TrimPrefix(value, "invalid value") + " is " + needed(findFlag(c.Command.Flags, name))
	}
	return &commandError{commandName(c), withCode(exitUsage, errors.New(msg))}
}

// needed says what the value of a flag must be.
func needed(f cli.Flag) string {
	switch f.(type) {
	case *cli.DurationFlag:
		return "no time; write it with a unit, as 500ms or 5s"
	case *cli.IntFlag, *cli.Int64Flag:
		return "no whole number"
	case *cli.UintFlag, *cli.Uint64Flag:
		return "no whole number from 0 on"
	case *cli.Float64Flag:
		return "no number"
	case *cli.BoolFlag:
		return "neither true nor false"
	}
	return "not possible"
}

// dashed returns a flag as one types it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// flagNames returns the long names of flags.
func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	return names
}
