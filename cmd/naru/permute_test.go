package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsMayStandAnywhere(t *testing.T) {
	leaf := func(name string, flags ...cli.Flag) *cli.Command { return &cli.Command{Name: name, Flags: flags} }
	raw := leaf("exec")
	raw.SkipFlagParsing = true
	app := &cli.App{
		Name:  "naru",
		Flags: append(globalFlags(), versionFlag()),
		Commands: []*cli.Command{
			leaf("drain",
				&cli.BoolFlag{Name: "wait", Aliases: []string{"w"}}, &cli.DurationFlag{Name: "deadline"}, outputFlag("table")),
			{Name: "lab", Aliases: []string{"l"}, Subcommands: []*cli.Command{
				raw, leaf("up", &cli.IntFlag{Name: "backends"}, quietFlag()),
			}},
		},
	}
	tests := []struct{ name, args, want string }{
		{"nothing", "", ""},
		{"a command alone", "drain", "drain"},
		{"flags first", "drain --wait web/b1", "drain --wait -- web/b1"},
		{"flags last", "drain web/b1 --wait", "drain --wait -- web/b1"},
		{"a short flag", "drain web/b1 -w", "drain -w -- web/b1"},
		{"a flag and its value", "drain web/b1 --deadline 5m x", "drain --deadline 5m -- web/b1 x"},
		{"a flag with its value in one", "drain web/b1 --deadline=5m x", "drain --deadline=5m -- web/b1 x"},
		{"a flag without its value", "drain web/b1 --deadline", "drain --deadline"},
		{"a value that looks like a flag", "drain web/b1 --deadline --wait", "drain --deadline --wait -- web/b1"},
		{"one dash is an argument", "drain - --wait", "drain --wait -- -"},
		{"nothing moves over two dashes", "drain a -- --wait b", "drain -- a --wait b"},
		{"two dashes at once", "drain -- --wait", "drain -- --wait"},
		{"two dashes behind flags", "drain --wait --", "drain --wait --"},
		{"an unknown flag stays in sight", "drain web/b1 --waitt x", "drain --waitt -- web/b1 x"},
		{"help", "drain web/b1 -h", "drain -h"},
		{"a global flag in front of the command", "-o json drain x", "drain -o json -- x"},
		{"global flags on both sides of a group", "-q lab -q up x --backends 3", "lab up -q -q --backends 3 -- x"},
		{"an alias of a group", "l up x --backends 3", "l up --backends 3 -- x"},
		{"an unknown flag in front of the command", "--bogus drain x", "--bogus drain -- x"},
		{"the version is the program's own", "-V drain", "-V drain"},
		{"global flags without a command", "-q -o json", "-q -o json"},
		{"a command that parses no flags", "lab exec client -- ls -l", "lab exec client -- ls -l"},
		{"a command that parses no flags, its flags", "lab exec -x client ls --wait", "lab exec -x client ls --wait"},
		{"a global flag in front of it", "-q lab exec client ls -q", "lab -q exec client ls -q"},
		{"an unknown command", "dran x --wait", "-- dran x --wait"},
		{"an unknown command in a group", "lab pu x --backends 3", "lab -- pu x --backends 3"},
		{"help as a word", "help lab up", "lab up --help"},
		{"help alone", "help", "--help"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := permute(app, append([]string{"naru"}, strings.Fields(test.args)...))
			if s := strings.Join(got[1:], " "); got[0] != "naru" || s != test.want {
				t.Errorf("%s: got %s, want %s", test.args, s, test.want)
			}
		})
	}
}

func TestPermuteTakesNoArgumentsAtAll(t *testing.T) {
	if got := permute(&cli.App{Name: "naru"}, nil); len(got) != 1 || got[0] != "naru" {
		t.Error(got)
	}
}

func TestPermuteLeavesItsArgumentsAlone(t *testing.T) {
	args := []string{"naru", "check", "f", "-q", "--", "x"}
	before := strings.Join(args, " ")
	permute(newApp(nil, nil, nil), args)
	if after := strings.Join(args, " "); after != before {
		t.Errorf("%s became %s", before, after)
	}
}
