package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute returns args in the order that the library wants: it takes a flag that stands after an argument for another
// argument. Flags move in front of the arguments of their command; global flags in front of the command move behind it.
// What follows "--", or a command that parses no flags, stays as it is.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return []string{app.Name}
	}
	p := permuter{global: app.Flags, out: args[:1:1]}
	p.level(app.Flags, app.Commands, helpLast(app, args[1:]))
	return p.out
}

// helpLast turns "help COMMAND..." into "COMMAND... --help".
func helpLast(app *cli.App, args []string) []string {
	if len(args) == 0 || args[0] != "help" || app.Command("help") != nil {
		return args
	}
	return append(args[1:len(args):len(args)], "--help")
}

// permuter builds the new order.
type permuter struct {
	global  []cli.Flag
	carried []string // global flags on the way to their command
	out     []string
}

// level handles the arguments of one command, which has flags and commands below it.
func (p *permuter) level(flags []cli.Flag, below []*cli.Command, rest []string) {
	var own, words []string
	valueless := false // the last flag lacks its value
	for len(rest) > 0 && rest[0] != "--" {
		arg := rest[0]
		if len(arg) < 2 || arg[0] != '-' {
			if len(below) > 0 {
				p.below(own, below, rest)
				return
			}
			words, rest = append(words, arg), rest[1:]
			continue
		}
		n := 1
		f := findFlag(flags, arg)
		global := len(below) > 0 && (f == nil || p.isGlobal(f)) && findFlag(p.global, arg) != nil
		if f == nil && global {
			f = findFlag(p.global, arg)
		}
		if takesNext(f, arg) {
			valueless = len(rest) == 1
			n = min(2, len(rest))
		}
		if global && f.Names()[0] != "version" {
			p.carried = append(p.carried, rest[:n]...)
		} else {
			own = append(own, rest[:n]...)
		}
		rest = rest[n:]
	}
	p.out = append(append(p.out, p.carried...), own...)
	if slices.ContainsFunc(own, asksHelp) || valueless {
		return // the library takes what follows for the topic of the help, or for the value
	}
	if len(words)+len(rest) > 0 {
		p.out = append(append(p.out, "--"), words...)
	}
	if len(rest) > 0 {
		p.out = append(p.out, rest[1:]...)
	}
}

// asksHelp reports whether an argument is the flag that every command has.
func asksHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// below goes on with the command that rest starts with.
func (p *permuter) below(own []string, commands []*cli.Command, rest []string) {
	p.out = append(p.out, own...)
	for _, cmd := range commands {
		switch {
		case !cmd.HasName(rest[0]):
			continue
		case cmd.SkipFlagParsing:
			p.out = append(append(p.out, p.carried...), rest...)
		default:
			p.out = append(p.out, rest[0])
			p.level(cmd.Flags, cmd.Subcommands, rest[1:])
		}
		return
	}
	// An unknown command: its name and all that follows are for the message.
	p.out = append(append(p.out, "--"), rest...)
}

func (p *permuter) isGlobal(f cli.Flag) bool {
	return slices.Contains(p.global, f)
}

// findFlag returns the flag that an argument names, or nil.
func findFlag(flags []cli.Flag, arg string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// takesNext reports whether the value of a flag is the next argument.
func takesNext(f cli.Flag, arg string) bool {
	v, ok := f.(cli.DocGenerationFlag)
	return ok && v.TakesValue() && !strings.Contains(arg, "=")
}
